"""The commands of `dlc`, one module each: `configure(parser)` declares its arguments, `run(arguments)` answers."""

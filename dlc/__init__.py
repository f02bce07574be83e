"""dlc: a declarative compiler for parallel deep learning."""

__version__ = "0.1.0"

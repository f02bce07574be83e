"""The search for a plan: what may be chosen (`network`, `strategies`, `space`), what it costs (`prices`, `tables`,
`objective`), the exact choice (`solve`, `elimination`, `limited`, `cuts`), and the plan that comes of it (`search`,
`apply`)."""

"""The search for a plan: what may be chosen (`network`, `strategies`), what it costs (`prices`, `tables`), the exact
choice (`elimination`, `limited`, `cuts`), and the plan that comes of it (`search`, `apply`)."""

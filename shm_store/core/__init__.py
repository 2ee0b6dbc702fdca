"""Internal. The base of all stores, which knows neither a table nor a server: decisions, protocols, and arguments."""

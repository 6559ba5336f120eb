"""The HTTP door: the admin API, and the adapter for agents that speak HTTP. It changes things only by the inbox."""

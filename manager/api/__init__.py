"""HTTP server of the manager: the admin API and the routes of HTTP agents. All writes go through the engine's inbox."""

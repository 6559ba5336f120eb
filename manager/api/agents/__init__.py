"""Hot routes of HTTP agents (heartbeat and events), and the fast lane that serves them without the framework."""

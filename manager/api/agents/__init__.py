"""Hot routes of HTTP agents, and the fast lane that serves them without the framework."""

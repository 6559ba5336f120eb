"""Connection to the manager: identity, registration, sessions, and the reconnect loop."""

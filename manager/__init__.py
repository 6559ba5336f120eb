"""The fleet manager: stores agents' reports, correlates them, and publishes policies and responses."""

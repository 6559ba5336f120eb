"""The guard: reads a host's logs, detects and reports threats, and applies the manager's policy."""

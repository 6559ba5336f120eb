"""The guard: watches one host, reports what it detects and enforces the manager's policy."""

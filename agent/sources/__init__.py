"""Where the guard's events come from: the host's own logs."""

"""The manager process: wiring of its parts, and its loop."""

"""The running manager: wiring of its parts, and its loop."""

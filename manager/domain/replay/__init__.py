"""Replay of stored reports under other settings."""

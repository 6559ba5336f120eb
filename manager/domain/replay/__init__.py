"""Replay of stored threats under other settings."""

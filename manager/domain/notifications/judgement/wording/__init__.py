"""Titles, lines and commands of messages to people."""

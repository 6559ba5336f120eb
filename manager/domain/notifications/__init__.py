"""Notifications: the events worth telling, and the messages that channels deliver."""

"""Notifications: follows the stored events, and delivers messages through channels."""

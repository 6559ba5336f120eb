"""Channels: deliver messages to mail and chat services, webhooks, syslog receivers and files."""

"""Policies and blocklists as signed messages, and the queue in which they are published."""

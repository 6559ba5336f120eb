"""Policies and blocklists as signed messages, and the queue of policies to be published."""

"""Threat reports: encoding, the durable outbox, delivery until the manager's receipt."""

"""Commands from people and HTTP agents: request values, executors, and the audit log."""

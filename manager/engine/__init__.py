"""The engine: one inbox, one thread, one transaction for each batch."""

"""Ingest worker: the hot half of the engine in a process of its own: verify, decode, store, acknowledge, receipt."""

"""Agents: registry, liveness, clock offsets, clones, undelivered reports, enrollment tokens."""

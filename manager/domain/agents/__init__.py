"""Agents: registry, liveness, clocks, clones, enrollment tokens."""

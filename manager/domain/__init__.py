"""The pure rules: registry, liveness, correlation, policies and responses. No I/O, no clock; time is an argument."""

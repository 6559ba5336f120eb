"""Domain rules: agents, correlation, response, policies, replay. No I/O, no clock; time is an argument."""

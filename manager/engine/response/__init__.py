"""Correlation and emergency response in the engine: feeds the rules and records their results."""

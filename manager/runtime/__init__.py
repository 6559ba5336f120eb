"""Builds the parts of a manager, wires them, and runs them."""

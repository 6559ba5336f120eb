"""Fault injection: kills, stops, cuts and damage at seeded moments under load, with every report checked by its id.

A tool of development, run by `make chaos`; it is not installed.
"""

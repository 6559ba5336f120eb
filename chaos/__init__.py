"""Fault injection: kills, stops, cuts and damage at seeded moments under load, with books that are checked id by id.

A tool of development, run by `make chaos`; it is not installed.
"""

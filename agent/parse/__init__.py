"""Parsers: turn records into events."""

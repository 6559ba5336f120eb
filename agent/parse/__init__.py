"""Parsers: convert records into events."""

"""Parsers: from records to events."""

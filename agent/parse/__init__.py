"""Parsers: from log records to events. No I/O, no clock."""

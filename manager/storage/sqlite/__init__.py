"""The parts of the store that only SQLite has."""

"""The data directory: lock, private files, the SQLite database and its migrations."""

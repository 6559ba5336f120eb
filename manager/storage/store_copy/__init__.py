"""Copy of a SQLite store into a PostgreSQL database: in steps, with digests that are equal on both systems."""

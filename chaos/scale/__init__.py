"""Faults at a group of processes on one database: managers, ingest workers, PostgreSQL and Mosquitto."""

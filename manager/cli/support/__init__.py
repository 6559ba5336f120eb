"""Connection, output and options shared by the commands."""

"""Connection, output and options that the commands share."""

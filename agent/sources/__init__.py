"""Sources of records: log files and the systemd journal."""

"""The command line `panguard guard`."""

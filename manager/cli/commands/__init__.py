"""Commands of `panguard manager`, one file for each command group."""

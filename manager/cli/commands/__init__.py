"""The commands of `panguard manager`, one file for each word."""

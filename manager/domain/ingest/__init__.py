"""Rules for several ingest processes: the progress of the leader's decisions, and the workers' signs of life."""

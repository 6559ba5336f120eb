"""Projections of the stored threats: counts by severity, type, agent and source."""

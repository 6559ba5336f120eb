"""Projections of the stored threats: counts by severity and type, by agent, by source address."""

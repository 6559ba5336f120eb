"""Policies: documents, rules, resolution, effective policies, revisions, drift."""

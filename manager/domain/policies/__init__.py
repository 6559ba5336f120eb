"""Policy documents: scopes, resolution, revisions, rules."""

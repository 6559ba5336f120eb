"""Certificates: a certification authority of the manager's own, what the doors serve, and when that expires."""

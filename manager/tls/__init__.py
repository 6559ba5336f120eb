"""TLS: the manager's own certificate authority, the certificates of its doors, and their expiry."""

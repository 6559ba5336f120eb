"""The HTTP server: listening, connections, TLS handshakes."""

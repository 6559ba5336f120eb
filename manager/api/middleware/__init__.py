"""Layers that each HTTP request passes: authentication, rate limit, headers, CORS."""

"""Layers that every HTTP request passes: admission (authentication, rate limit), CORS, headers, errors, metrics."""

"""HTTP server: uvicorn with time and size limits for each connection."""

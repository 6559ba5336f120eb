"""The web console: HTML, CSS and ES modules, a client of the HTTP API and of nothing else. See docs/console.md."""

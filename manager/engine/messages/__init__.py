"""Messages from agents: verification, decoding, and a handler for each."""

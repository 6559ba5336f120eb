"""Messages from agents: verification, decoding, and one handler for each message."""

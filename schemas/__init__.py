"""The public contract: messages, topics, the policy document, limits, keys and codes. No I/O."""

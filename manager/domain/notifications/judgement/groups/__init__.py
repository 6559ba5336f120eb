"""Groups of events that people are told of together: their items, messages and rules."""

"""The engine's side of correlation and emergency response."""

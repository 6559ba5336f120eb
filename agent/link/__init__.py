"""How a guard speaks to its manager: one small interface, and what implements it."""

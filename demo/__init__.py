"""A whole fleet on one machine, for ten minutes of getting to know the product."""

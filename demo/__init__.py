"""The demo: a manager, a broker and three guards on one machine, with a staged attack."""

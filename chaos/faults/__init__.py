"""The faults, one file each: `FAULT`, and a docstring with what must hold."""

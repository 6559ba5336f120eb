"""The faults, one file each: `FAULT`, and a docstring with the fault and the expected result."""

"""Analysis: turns a finding into the verdict that is reported. No I/O, no clock."""

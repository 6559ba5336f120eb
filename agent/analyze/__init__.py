"""From a finding to the verdict that is reported. No I/O, no clock."""

"""Pure rules that turn a host's events into detections: no I/O, no clock."""

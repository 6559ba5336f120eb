"""The MQTT door: the manager's session at its broker; it acknowledges only committed messages."""

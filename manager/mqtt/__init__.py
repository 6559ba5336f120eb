"""The MQTT door: the manager's session at its broker, which acknowledges only committed messages."""

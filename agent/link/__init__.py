"""Connections to the manager: the interface `Link`, and its implementations over MQTT and HTTP."""

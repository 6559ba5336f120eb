"""The two doors of a simulated agent: MQTT at a broker, HTTP at the manager."""

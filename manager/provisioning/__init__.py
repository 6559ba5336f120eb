"""Access at a Mosquitto with the dynamic-security plugin: who may connect and do what, kept as the fleet is."""

"""Provisioning of a Mosquitto with the dynamic-security plugin: synchronizes logins and roles with the fleet."""

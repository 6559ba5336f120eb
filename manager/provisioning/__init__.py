"""Provisioning of a Mosquitto with the dynamic-security plugin: logins and roles, kept equal to the fleet's."""

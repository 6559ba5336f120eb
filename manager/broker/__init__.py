"""The embedded broker: amqtt with its defects fixed, its access control, and the process that it runs in."""

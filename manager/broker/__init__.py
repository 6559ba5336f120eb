"""The embedded broker: amqtt with its defects fixed, its access control, and its process."""

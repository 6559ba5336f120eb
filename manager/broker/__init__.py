"""The embedded broker: amqtt with its defects mended, its access control, and the process it runs in."""

"""The embedded broker: amqtt with its defects fixed, its access control, and its process."""

import manager.structured_logging  # noqa: F401 -- before the parts of the broker load structlog

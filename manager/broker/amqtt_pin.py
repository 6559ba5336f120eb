"""The one place that knows which amqtt the hardened broker was made for."""

import amqtt

from manager.broker.errors import WrongAmqttVersionError

REQUIRED_AMQTT = "0.12.1"


def require_pinned_amqtt() -> None:
    """Check the installed amqtt: overrides of private methods hold for one exact version.

    Raises:
        WrongAmqttVersionError: another version is installed.
    """
    if amqtt.__version__ != REQUIRED_AMQTT:
        raise WrongAmqttVersionError(amqtt.__version__, REQUIRED_AMQTT)

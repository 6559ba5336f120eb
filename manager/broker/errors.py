"""Errors of the embedded broker; each message says what to do."""

import amqtt

from manager.errors import ManagerError


class EmbeddedBrokerError(ManagerError):
    """Root of the embedded broker's errors."""


class WrongAmqttVersionError(EmbeddedBrokerError):
    """The installed amqtt is not the version whose private methods the hardened broker overrides."""

    def __init__(self, installed: str, required: str) -> None:
        self.installed = installed
        super().__init__(
            f"amqtt {installed} is installed, but the embedded broker works with amqtt {required} only:"
            f" run pip install amqtt=={required}, or name another broker with --broker",
        )


class BrokerStartError(EmbeddedBrokerError):
    """The embedded broker did not start; the message says why and what to do."""


class PortTakenError(BrokerStartError):
    """Another program listens on the broker's port."""

    def __init__(self, host: str, port: int, waited: float) -> None:
        super().__init__(
            f"port {port} on {host} was still taken after {waited:g} s:"
            " stop the program that listens there, or give the broker another port",
        )


class BrokerNotRunningError(EmbeddedBrokerError):
    """The embedded broker's process is not running and accepts no command."""

    def __init__(self, exit_code: int | None) -> None:
        self.exit_code = exit_code
        state = "was not started" if exit_code is None else f"has ended with exit code {exit_code}"
        super().__init__(f"the embedded broker {state}: start it again")


REQUIRED_AMQTT = "0.12.1"


def require_pinned_amqtt() -> None:
    """Check the installed amqtt: overrides of private methods are valid for one exact version.

    Raises:
        WrongAmqttVersionError: another version is installed.
    """
    if amqtt.__version__ != REQUIRED_AMQTT:
        raise WrongAmqttVersionError(amqtt.__version__, REQUIRED_AMQTT)

"""The interface of channels, their error, and the deadline of their blocking calls."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from manager.domain.notifications.message import Message
from manager.errors import ManagerError

TIMEOUT = 30.0
"""Seconds that one delivery may take."""

T = TypeVar("T")


class ChannelError(ManagerError):
    """A message was not delivered.

    Attributes:
        reason: One sentence for operators, without addresses, secrets or text from outside.
        retry: Whether another try may succeed; False if the receiver refuses the message for good.
        answered: Whether the receiver answered to this message, so that it may take others.
    """

    def __init__(self, reason: str, *, retry: bool, answered: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry = retry
        self.answered = answered


class Channel(ABC):
    """Delivers messages to one receiver; used by one thread at a time."""

    @abstractmethod
    def deliver(self, message: Message) -> None:
        """Deliver a message; return once the receiver has taken it.

        Raises:
            ChannelError: it was not delivered within the channel's timeout.
        """

    def close(self) -> None:  # noqa: B027 -- most channels hold nothing open
        """Release what the channel holds."""


class Deadline:
    """Runs blocking calls, each with a limit of time; a call that exceeds it is abandoned.

    The socket timeouts of libraries limit each read and not the whole, and a name lookup has none. So each call runs
    in a daemon thread, and no other call starts while an abandoned one still runs.

    Args:
        seconds: The limit.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._abandoned: threading.Thread | None = None

    def run(self, call: Callable[[], T], abandon: Callable[[], None] = lambda: None) -> T:
        """Return the result of a call; `abandon` is called if it takes too long, and closes what it waits for.

        Raises:
            ChannelError: it takes too long, or an abandoned call still runs; errors of the call itself are passed on.
        """
        if self._abandoned is not None and self._abandoned.is_alive():
            raise ChannelError("an earlier delivery still hangs", retry=True)
        results: list[T] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                results.append(call())
            except BaseException as error:  # noqa: BLE001 -- raised again in the caller's thread
                errors.append(error)

        thread = threading.Thread(target=work, name="notification-delivery", daemon=True)
        thread.start()
        thread.join(self.seconds)
        if errors:
            raise errors[0]
        if results:
            return results[0]
        self._abandoned = thread
        with suppress(OSError):
            abandon()
        raise ChannelError(f"no answer within {self.seconds:g} s", retry=True)

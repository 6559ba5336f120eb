"""Errors of the manager; each message says what to do."""

from collections.abc import Callable


class ManagerError(Exception):
    """Root of the manager's errors."""


class StoreUnavailable(ManagerError):  # noqa: N818 -- a state, not a mistake
    """The store cannot commit now: locked, full, damaged or unreachable. Nothing is lost or acknowledged."""


class StoreDamaged(StoreUnavailable):
    """The store's files are damaged; nothing is stored until a person has restored them."""


class ManagerStops(StoreUnavailable):
    """The manager stops or hands the lead over, and takes no more commands. Nothing of this one was done."""


class StoreRejected(ManagerError):  # noqa: N818 -- named beside StoreUnavailable
    """The store can commit, but not these changes: a value does not fit its tables."""


class CommitPending(ManagerError):  # noqa: N818 -- a state, not a mistake
    """A command was executed, and its commit is pending until the store is available."""


class NotFound(ManagerError):  # noqa: N818 -- the word that HTTP has for it
    """The target of a command does not exist."""


class Conflict(ManagerError):  # noqa: N818 -- the word that HTTP has for it
    """A command conflicts with the current state."""


class Invalid(ManagerError):  # noqa: N818 -- the word that HTTP has for it
    """A command is malformed; the text names the field."""


class LeaderNeeded(ManagerError):  # noqa: N818 -- a state, not a mistake
    """An ingest worker cannot serve a request, of which nothing was stored; the manager that leads can.

    Args:
        reason: why not.
        may_be_learned: whether the worker may know the agent once it has looked it up.
        served: called once the leader has answered the request.
    """

    def __init__(self, reason: str, *, may_be_learned: bool = False, served: Callable[[], None] | None = None) -> None:
        super().__init__(reason)
        self.may_be_learned = may_be_learned
        self.served = served


class SetupError(ManagerError):
    """The manager cannot start with these settings."""


class DataDirectoryInUse(SetupError):  # noqa: N818 -- a state, not a mistake
    """Another manager has locked the data directory."""

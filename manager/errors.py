"""What can go wrong in the manager; every text is one sentence that says what to do."""


class ManagerError(Exception):
    """Root of the manager's errors."""


class StoreUnavailable(ManagerError):  # noqa: N818 -- a state, not a mistake
    """The store cannot commit just now: locked, full or unreachable. What waits for it is neither lost nor acked."""


class StoreRejected(ManagerError):  # noqa: N818 -- named beside StoreUnavailable
    """The store can commit, but not these changes: something in them does not fit its tables."""


class NotFound(ManagerError):  # noqa: N818 -- the word that HTTP has for it
    """What a command names does not exist."""


class Conflict(ManagerError):  # noqa: N818 -- the word that HTTP has for it
    """A command cannot be carried out as things stand."""


class Invalid(ManagerError):  # noqa: N818 -- the word that HTTP has for it
    """A command's own words are wrong; the text names the field."""


class BrokerUnavailable(ManagerError):  # noqa: N818 -- a state, not a mistake
    """The broker cannot be reached or refuses the manager."""


class SetupError(ManagerError):
    """The manager cannot start with these settings."""

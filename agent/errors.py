"""The guard's errors; each message says what to do."""

from pathlib import Path


class GuardError(Exception):
    """Root of the guard's own errors."""


class ConfigurationError(GuardError):
    """An option, setting or file from the operator is invalid."""


class AlreadyRunningError(GuardError):
    """Another guard owns the data directory."""

    def __init__(self, directory: Path, pid: int | None) -> None:
        self.directory = directory
        self.pid = pid
        holder = "another guard" if pid is None else f"the guard with process id {pid}"
        super().__init__(f"{holder} runs in {directory}; stop it, or give this one a --data-dir of its own")


class NotRunningError(GuardError):
    """No guard owns the data directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        super().__init__(f"no guard runs in {directory}; name the --data-dir that it was started with")


class StillRunningError(GuardError):
    """A guard did not stop in time."""

    def __init__(self, pid: int, seconds: float) -> None:
        self.pid = pid
        super().__init__(f"the guard with process id {pid} has not ended within {seconds:.0f} s; see its log")


class StorageError(GuardError):
    """A file of the data directory cannot be read or written."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(f"{path} cannot be used ({reason}); mend it, or start in another --data-dir")


class EnrollmentError(GuardError):
    """The manager rejected this guard permanently; a retry with the same token cannot succeed.

    Attributes:
        error: The rejection's code in the protocol.
    """

    def __init__(self, error: str, reason: str) -> None:
        self.error = error
        super().__init__(f"the manager refused to register this guard ({error}): {reason}")

"""The manager's data directory: its lock, its keys and credentials, each readable by the owner alone."""

import fcntl
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from manager.errors import SetupError

_SEED = 32
BROKER_PASSWORD = "broker.password"  # noqa: S105 -- the name of a file
_ENROLLMENT_TOKEN = "enroll.token"  # noqa: S105 -- the name of a file


class DataDirectory:
    """The directory that one running manager owns; a context manager that holds its lock.

    Args:
        path: made with access for its owner alone if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @property
    def store(self) -> Path:
        """The SQLite store."""
        return self.path / "panguard.db"

    @property
    def pid_file(self) -> Path:
        """Holds the running manager's process id, and is locked by it."""
        return self.path / "manager.pid"

    @property
    def ready_file(self) -> Path:
        """Where the running manager's doors are, as JSON: `http`, `mqtt`, `pid`."""
        return self.path / "manager.ready"

    def __enter__(self) -> Self:
        """Make the directory if need be, and take its lock.

        Raises:
            SetupError: it cannot be made or written, or another manager owns it.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.pid_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SetupError(f"the data directory {self.path} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            self._lock = None
            raise SetupError(f"another manager runs on {self.path}; stop it, or name another --data-dir") from error
        os.ftruncate(self._lock, 0)
        os.write(self._lock, f"{os.getpid()}\n".encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back; the file stays, empty, so that no two managers ever lock different files."""
        self.ready_file.unlink(missing_ok=True)
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def seed(self) -> bytes:
        """Return the seed of the manager's keys, made at the first start.

        Raises:
            SetupError: the file is damaged.
        """
        text = self._kept("manager.key", lambda: secrets.token_hex(_SEED))
        try:
            seed = bytes.fromhex(text)
        except ValueError:
            seed = b""
        if len(seed) != _SEED:
            raise SetupError(f"{self.path / 'manager.key'} is damaged; restore it: agents trust no other key")
        return seed

    def admin_token(self) -> str:
        """Return the admin token, made at the first start."""
        return self._kept("admin.token", lambda: secrets.token_urlsafe(32))

    def observer_credential(self) -> tuple[str, str]:
        """Return username and password of those who only watch, made at the first start."""
        text = self._kept("observer.credential", lambda: f"observer:{secrets.token_urlsafe(24)}")
        username, _, password = text.partition(":")
        return username, password

    def broker_password(self) -> str | None:
        """Return the manager's password at a broker that `panguard manager broker init` prepared; None without one."""
        return self._read(BROKER_PASSWORD) or None

    def new_broker_password(self) -> str:
        """Return the manager's password at its own broker, made when it is first asked for."""
        return self._kept(BROKER_PASSWORD, lambda: secrets.token_urlsafe(32))

    def enrollment_token(self, make: Callable[[], str]) -> str:
        """Return the enrollment token without limits; `make` gives it at the first start."""
        return self._kept(_ENROLLMENT_TOKEN, make)

    def replace_enrollment_token(self, text: str) -> None:
        """Keep the same token in other words: what it tells guards of the manager has changed."""
        self._write(self.path / _ENROLLMENT_TOKEN, text)

    def announce(self, http: str, mqtt: str) -> None:
        """Write down where the doors are, for commands on the same machine."""
        self._write(self.ready_file, json.dumps({"http": http, "mqtt": mqtt, "pid": os.getpid()}))

    def _kept(self, name: str, make: Callable[[], str]) -> str:
        text = self._read(name)
        if not text:
            text = make()
            self._write(self.path / name, text)
        return text

    def _read(self, name: str) -> str:
        """Return what a file says, nothing if it is not there.

        Raises:
            SetupError: it holds no text, or cannot be read.
        """
        path = self.path / name
        try:
            return path.read_text("utf-8").strip()
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise SetupError(f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise SetupError(f"{path} is damaged; restore it, or remove it to have it made anew") from error

    def _write(self, path: Path, text: str) -> None:
        """Write a file that is whole or not there, on disk when this returns, and never readable by others."""
        draft = path.with_name(f".{path.name}.new")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

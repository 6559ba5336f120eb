"""The manager's data directory: lock, keys and credentials, readable by the owner only."""

import base64
import fcntl
import json
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from manager.errors import DataDirectoryInUse, SetupError
from manager.key_file import KeyFile
from schemas.errors import TokenError
from schemas.keys import EnrollmentToken

_SEED = 32
_CHANNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
KEY_FILE = "manager.key"
BROKER_PASSWORD_FILE = "broker.password"  # noqa: S105 -- the name of a file
_ADMIN_TOKEN_FILE = "admin.token"  # noqa: S105 -- the same
_OBSERVER_FILE = "observer.credential"
_ENROLLMENT_TOKEN_FILE = "enroll.token"  # noqa: S105 -- the name of a file


def _new_webhook_secret() -> str:
    """Return 32 random bytes in the form of the Standard Webhooks specification."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SEED)).decode()


class SharedFiles(Protocol):
    """The texts of files that all managers of a database have, by the names of the files."""

    def get(self, name: str) -> str | None:
        """Return the text of a file; None if no manager has stored one."""
        ...

    def put(self, name: str, text: str) -> None:
        """Store the text of a file."""
        ...


class DataDirectory:
    """A data directory; a context manager that holds the lock of the one running manager.

    Args:
        path: created with access for its owner only if it does not exist.
        key_file: the path of the key file; by default `manager.key` in the directory.
    """

    def __init__(self, path: Path, key_file: Path | None = None) -> None:
        self.path = path
        self.key_file = KeyFile(key_file or path / KEY_FILE)
        self._lock: int | None = None
        self.shared: SharedFiles | None = None
        """The texts that all managers of a database have in their files; None for a manager with a store of its own."""

    @property
    def store(self) -> Path:
        """The SQLite store."""
        return self.path / "panguard.db"

    @property
    def pid_file(self) -> Path:
        """The file with the running manager's process id; the manager locks it."""
        return self.path / "manager.pid"

    @property
    def ready_file(self) -> Path:
        """The file with the addresses of the running manager's doors, as JSON: `http`, `mqtt`, `pid`."""
        return self.path / "manager.ready"

    @property
    def was_used(self) -> bool:
        """Whether a manager has used the directory before, by the enrollment token, which the first start creates."""
        return (self.path / _ENROLLMENT_TOKEN_FILE).exists()

    def __enter__(self) -> Self:
        """Create the directory if it does not exist, and lock it.

        Raises:
            DataDirectoryInUse: another manager has the lock.
            SetupError: it cannot be created or written.
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
            raise DataDirectoryInUse(
                f"another manager runs on {self.path}; stop it, or name another --data-dir"
            ) from error
        os.ftruncate(self._lock, 0)
        os.write(self._lock, f"{os.getpid()}\n".encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock; the empty file is kept, so that two managers never lock different files."""
        self.ready_file.unlink(missing_ok=True)
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def admin_token(self) -> str:
        """Return the admin token, created at the first start."""
        return self._read_or_create(_ADMIN_TOKEN_FILE, lambda: secrets.token_urlsafe(32))

    def known_admin_token(self) -> str | None:
        """Return the admin token; None if none was created yet."""
        return self._read(_ADMIN_TOKEN_FILE) or None

    def write_shared_files(self) -> None:
        """Write the files that the manager which leads has, so that commands on this host use the same tokens."""
        for name in (_ADMIN_TOKEN_FILE, _OBSERVER_FILE, _ENROLLMENT_TOKEN_FILE):
            text = None if self.shared is None else self.shared.get(name)
            if text is not None and text != self._read(name):
                self._write(self.path / name, text)

    def observer_credential(self) -> tuple[str, str]:
        """Return username and password of read-only MQTT clients, created at the first start."""
        text = self._read_or_create(_OBSERVER_FILE, lambda: f"observer:{secrets.token_urlsafe(24)}")
        username, _, password = text.partition(":")
        return username, password

    def broker_password(self) -> str | None:
        """Return the manager's password at a broker that `panguard manager broker init` prepared; None without a file.

        The store has it sealed for managers and workers without the file.
        """
        return self._read(BROKER_PASSWORD_FILE) or None

    def new_broker_password(self) -> str:
        """Return the manager's password at a broker that `broker init` prepares, created at the first call."""
        return self._read_or_create(BROKER_PASSWORD_FILE, lambda: secrets.token_urlsafe(32))

    def webhook_secret(self, channel: str) -> tuple[Path, str]:
        """Return the file of the secret that signs a webhook's messages, and its text, created at the first call.

        Args:
            channel: the channel's name; letters, digits, `-` and `_`.

        Raises:
            SetupError: the name has other characters, or the file cannot be used.
        """
        if not _CHANNEL.fullmatch(channel):
            raise SetupError(f"{channel!r} is no name of a channel: use letters, digits, - and _")
        name = f"webhook-{channel}.key"
        return self.path / name, self._read_or_create(name, _new_webhook_secret)

    def enrollment_token(self, make: Callable[[], str]) -> str:
        """Return the enrollment token without limits; `make` creates it at the first start."""
        return self._read_or_create(_ENROLLMENT_TOKEN_FILE, make)

    def follow_rotation(self, token: EnrollmentToken) -> None:
        """Write a rotated token to the enrollment token's file, if the file has the token with its id."""
        with suppress(SetupError, TokenError):  # a damaged file is no token's
            if EnrollmentToken.parse(self._read(_ENROLLMENT_TOKEN_FILE)).token_id == token.token_id:
                self.replace_enrollment_token(str(token))

    def name_sign_key(self, sign_key: str) -> None:
        """Write a rotated signing key to the enrollment token's file, if there is one."""
        with suppress(SetupError, TokenError):
            token = EnrollmentToken.parse(self._read(_ENROLLMENT_TOKEN_FILE))
            if token.sign_key != sign_key:
                self.replace_enrollment_token(str(replace(token, sign_key=sign_key)))

    def replace_enrollment_token(self, text: str) -> None:
        """Replace the text of the token after a rotation, or a change of the manager's details in it."""
        if self.shared is not None:
            self.shared.put(_ENROLLMENT_TOKEN_FILE, text)
        self._write(self.path / _ENROLLMENT_TOKEN_FILE, text)

    def write_ready_file(self, http: str, mqtt: str) -> None:
        """Write the doors' addresses for commands on the same machine."""
        self._write(self.ready_file, json.dumps({"http": http, "mqtt": mqtt, "pid": os.getpid()}))

    def _read_or_create(self, name: str, make: Callable[[], str]) -> str:
        text = self._read(name)
        stored = None if self.shared is None else self.shared.get(name)
        wanted = stored or text or make()
        if self.shared is not None and wanted != stored:
            self.shared.put(name, wanted)
        if wanted != text:
            self._write(self.path / name, wanted)
        return wanted

    def _read(self, name: str) -> str:
        """Return the text of a file; empty if it does not exist.

        Raises:
            SetupError: it is not UTF-8, or cannot be read.
        """
        path = self.path / name
        try:
            return path.read_text("utf-8").strip()
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise SetupError(f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise SetupError(self._damaged(name)) from error

    def _damaged(self, name: str) -> str:
        """Return the error message for a file that is not text."""
        path = self.path / name
        if name == BROKER_PASSWORD_FILE:
            return f"{path} is damaged: put it back from a backup; the broker lets the manager in with no other"
        return f"{path} is damaged: put it back from a backup, or remove it, and the next start creates another"

    def _write(self, path: Path, text: str) -> None:
        """Write a file atomically and durably, readable by the owner only."""
        draft = path.with_name(f".{path.name}.new")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

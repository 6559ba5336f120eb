"""The secrets of a fleet that a test has started, and where they stand: in files, and in processes that run."""

import base64
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from manager.domain.signing_keys import SigningKeys
from manager.storage.rows import SecretCipher
from schemas import message_codes
from schemas.keys import AgentKeys, EnrollmentToken, ManagerKeyring, derive
from tests.support.migrated_store import address_of

MAY_HOLD = {
    "manager/admin.token": {"admin token"},
    "manager/enroll.token": {"enrollment secret"},
    "manager/manager.key": {"key file"},
    "manager/observer.credential": {"observer password"},
    "manager/broker.password": {"broker password"},
    "manager/tls/ca.key": {"ca.key"},
    "manager/tls/http.key": {"http.key"},
    "manager/tls/broker.key": {"broker.key"},
}
"""Which secret is kept in which file, and nowhere else. The proof key is the SHA-256 of an enrollment secret."""


class Secrets:
    """Secrets by what they are, each in every form in which it could be written."""

    def __init__(self) -> None:
        self._forms: dict[bytes, str] = {}
        self._known: set[str] = set()

    def __len__(self) -> int:
        """Return of how many secrets is known."""
        return len(self._known)

    def add(self, name: str, raw: bytes) -> None:
        """Know a secret by its bytes."""
        self._known.add(f"{name} {raw.hex()}")
        url, plain = base64.urlsafe_b64encode(raw), base64.b64encode(raw)
        forms = (raw, url.rstrip(b"="), plain.rstrip(b"="), raw.hex().encode(), raw.hex().upper().encode())
        self._forms.update(dict.fromkeys((*forms, repr(raw)[2:-1].encode()), name))

    def add_text(self, name: str, text: str) -> None:
        """Know a secret that is text, and the bytes that it stands for if it is base64url."""
        self._known.add(f"{name} {text}")
        self._forms[text.encode()] = name
        self._forms[base64.b64encode(text.encode()).rstrip(b"=")] = name

    def add_token(self, text: str) -> None:
        """Know the secret in an enrollment token, and what its proofs are keyed with."""
        token = EnrollmentToken.parse(text)
        self.add("enrollment secret", token.secret)
        self.add("enrollment proof key", token.proof_key)

    def add_manager(self, data: Path, key_file: Path | None = None) -> None:
        """Know what is in a manager's data directory, and its key file, which may be elsewhere."""
        self.add_text("admin token", (data / "admin.token").read_text().strip())
        self.add_text("observer password", (data / "observer.credential").read_text().strip().partition(":")[2])
        self.add_token((data / "enroll.token").read_text().strip())
        if (data / "broker.password").exists():
            self.add_text("broker password", (data / "broker.password").read_text().strip())
        key = bytes.fromhex((key_file or data / "manager.key").read_text())
        self.add("key file", key)
        self.add("key of sealed values", derive(key, b"sealed values"))
        self.add("store key", derive(key, b"store"))
        seed = _signing_keys(data, key).seed
        keyring = ManagerKeyring(seed)
        self.add("manager seed", seed)
        self.add("signing key", keyring.sign_key.private_bytes_raw())
        self.add("sealing key", keyring._seal_key.private_bytes_raw())
        for path in (data / "tls").glob("*.key"):
            key = load_pem_private_key(path.read_bytes(), None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            self.add(path.name, key.private_numbers().private_value.to_bytes(32, "big"))
            for line in path.read_text().splitlines()[1:-1]:
                self.add_text(path.name, line)

    def add_guard(self, identity: Path) -> None:
        """Know a guard's one secret, the three keys that come from it, and the token that HTTP gave it."""
        kept = json.loads(identity.read_text())
        secret = message_codes.from_base64url(kept["secret"])
        keys = AgentKeys.derive(secret)
        self.add("agent secret", secret)
        for name, text in (("mqtt password", keys.mqtt_password), ("http token", keys.http_token)):
            self.add_text(name, text)
            self.add(name, message_codes.from_base64url(text))
        self.add("code key", keys.mac_key)
        if kept["http"] is not None:
            self.add_text("given token", kept["http"]["token"])

    def found_in(self, content: bytes) -> set[str]:
        """Return which secrets stand in it."""
        return {name for form, name in self._forms.items() if form in content}

    def in_files(self, home: Path, kept: dict[str, set[str]]) -> dict[str, set[str]]:
        """Return the files with a secret that is none of those they are there to keep.

        Args:
            home: what is searched, all of it.
            kept: the secrets of files that keep any, by their path within `home`.
        """
        spilled = {}
        for path in _files(home):
            name = str(path.relative_to(home))
            surplus = self.found_in(path.read_bytes()) - kept.get(name, set())
            if surplus:
                spilled[name] = surplus
        return spilled

    def in_processes(self, pids: Iterable[int]) -> dict[str, set[str]]:
        """Return which of these processes, and of all that they started, show a secret to who lists them."""
        spilled = {}
        for pid in _with_children(pids):
            for name in ("cmdline", "environ", "comm", "status"):
                shown = self.found_in(Path(f"/proc/{pid}/{name}").read_bytes())
                if shown:
                    spilled[f"{name} of {psutil.Process(pid).cmdline()[:6]}"] = shown
        return spilled


def open_to_others(directories: Iterable[Path]) -> set[Path]:
    """Return what in these directories, themselves included, anybody but its owner may read or enter."""
    everything = [path for directory in directories for path in (directory, *directory.rglob("*"))]
    return {path for path in everything if path.lstat().st_mode & 0o077}


def _signing_keys(data: Path, key: bytes) -> SigningKeys:
    database = address_of(data / "panguard.db")
    connected = sqlite3.connect(data / "panguard.db") if database is None else psycopg.connect(database.url)
    with closing(connected) as store:
        (value,) = store.execute("SELECT value FROM sealed_value WHERE name = 'signing_keys'").fetchone()  # type: ignore[misc]
    return SigningKeys.load(SecretCipher(derive(key, b"sealed values")).decrypt(value, "signing_keys"))


def _files(home: Path) -> Iterator[Path]:
    return (Path(folder) / name for folder, _, names in os.walk(home) for name in names)


def _with_children(pids: Iterable[int]) -> set[int]:
    parents = [psutil.Process(pid) for pid in pids]
    return {process.pid for parent in parents for process in (parent, *parent.children(recursive=True))}

"""The manager's own secrets in the store, sealed with the key file, and the check that the two belong together."""

import secrets
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from cryptography.exceptions import InvalidTag
from peewee import Database, IntegrityError

from manager.domain.signing_keys import SEED_LENGTH, SIGNING_KEYS, SigningKeys
from manager.errors import SetupError
from manager.key_file import KeyFile
from manager.storage.connection import holds_secrets
from manager.storage.location import StoreLocation
from manager.storage.rows import SecretCipher
from manager.storage.statements import Statements
from schemas.keys import derive

log = structlog.get_logger(__name__)

BROKER_PASSWORD = "broker_password"  # noqa: S105 -- the name of a value
"""The sealed text of the manager's password at a prepared broker, which the leader keeps."""

_CHECK = "key_check"
_CHECKED = b"this database belongs to this key file"
_USER_NAMES = "user_names"
_PIECE = 1000
_OTHER_KEY_FILE = (
    "this database belongs to another key file: {} does not open the secrets in the store {}; put the key file back"
    " that belongs to it (of several managers, a copy of the others'), or name it by --key-file; both stay as they are"
    " until then"
)
_PROOF_KEY = 32


class SealedValues:
    """The sealed values of one store.

    Each is encrypted with AES-256-GCM; its name is the associated data, so that no value stands for another.

    Args:
        database: open and migrated.
        key: the key of the key file.
    """

    def __init__(self, database: Database, key: bytes) -> None:
        self._database = database
        self._statements = Statements(database)
        self._key = key
        self._cipher = SecretCipher(derive(key, b"sealed values"))

    def on(self, database: Database) -> "SealedValues":
        """Return the sealed values of the same store on another connection."""
        return SealedValues(database, self._key)

    def get(self, name: str) -> bytes | None:
        """Return a value; None if there is none.

        Raises:
            InvalidTag: it was sealed with another key file, for another name, or is damaged.
        """
        rows = self._statements.rows("sealed_values.get", (name,))
        return self._cipher.decrypt(bytes(rows[0][0]), name) if rows else None

    def put(self, name: str, value: bytes) -> None:
        """Write a value, in the transaction of the caller."""
        self._statements.execute("sealed_values.upsert", (name, self._cipher.encrypt(value, name)))

    def add(self, name: str, value: bytes) -> None:
        """Write a value that does not exist, in the transaction of the caller."""
        self._statements.execute("sealed_values.insert", (name, self._cipher.encrypt(value, name)))

    def keep_text(self, name: str, text: str | None) -> str | None:
        """Seal a text in a transaction of its own if there is one, and return the sealed text; None without any."""
        kept = self.get(name)
        if text is None or (kept is not None and kept == text.encode()):
            return None if kept is None else kept.decode()
        with self._database.atomic():
            self.put(name, text.encode())
        return text

    def belongs(self) -> bool | None:
        """Return whether the store was sealed with this key; None if none of its values was sealed yet."""
        try:
            return None if self.get(_CHECK) is None else True
        except InvalidTag:
            return False


@dataclass(frozen=True, slots=True)
class StoreSecrets:
    """The secrets that open with the key file.

    Attributes:
        store_key: seals the secrets of agents and tokens.
        signing_keys: the manager's signing keys.
        user_name_key: masks user names.
        values: the sealed values, for the writer.
    """

    store_key: bytes
    signing_keys: SigningKeys
    user_name_key: bytes
    values: SealedValues = field(compare=False)

    def __repr__(self) -> str:
        """Return a text without the secrets."""
        return "StoreSecrets(…)"


def key_for(file: KeyFile, store: StoreLocation, database: Database | None = None) -> bytes:
    """Return the key of a key file, created where no store has a secret that needs another.

    Args:
        file: the key file.
        store: the store's place.
        database: the store's, open and migrated; a store in PostgreSQL is asked through it.

    Raises:
        SetupError: the file is missing beside such a store, or cannot be used.
    """
    key = file.read()
    if key is not None:
        return key
    if holds_secrets(store) if isinstance(store, Path) else database is None or count_sealed(database):
        others = "" if isinstance(store, Path) else " (all managers of a database have the same: copy it from another)"
        raise SetupError(
            f"the key file {file.path} is missing, and the store {store} has secrets that no other key opens, and"
            f" agents that trust no other: put the key file back from a backup, or name it by --key-file{others}; the"
            " store stays as it is until then"
        )
    return file.create()


def open_secrets(database: Database, file: KeyFile, store: StoreLocation) -> StoreSecrets:
    """Return the secrets of a store; the first start with a key file creates and seals them.

    A store of an earlier release keeps its keys, which came from the bytes of its key file. A rotation of the key file
    that ended after the store was sealed anew is completed; where the file cannot be replaced, the next key is used
    from the file that it is in, with a warning.

    Args:
        database: the store's, open and migrated.
        file: the key file.
        store: the store's place.

    Raises:
        SetupError: the key file is not the store's.
    """
    key = key_for(file, store, database)
    sealed = SealedValues(database, key)
    belongs = sealed.belongs()
    if belongs is False:
        key, sealed = _after_interrupted_rotation(database, file, store)
    elif belongs is None:
        try:
            _seal_first(database, sealed, key, file, store)
        except IntegrityError as error:  # another manager has sealed a new database meanwhile
            if not sealed.belongs():
                raise SetupError(_OTHER_KEY_FILE.format(file.path, store)) from error
    signing_keys, user_name_key = sealed.get(SIGNING_KEYS), sealed.get(_USER_NAMES)
    if signing_keys is None or user_name_key is None:
        raise SetupError(f"the store {store} lacks sealed keys that belong to it: put a backup in its place")
    return StoreSecrets(derive(key, b"store"), SigningKeys.load(signing_keys), user_name_key, sealed)


def _after_interrupted_rotation(database: Database, file: KeyFile, store: StoreLocation) -> tuple[bytes, SealedValues]:
    key = file.next.read()
    if key is not None:
        sealed = SealedValues(database, key)
        if sealed.belongs():
            try:
                file.take_next()
            except SetupError as error:
                log.warning("key_file_not_replaced", error=str(error), used=str(file.next.path))
            return key, sealed
    raise SetupError(_OTHER_KEY_FILE.format(file.path, store))


def _seal_first(database: Database, sealed: SealedValues, key: bytes, file: KeyFile, store: StoreLocation) -> None:
    statements = Statements(database)
    with database.atomic():
        seed = key if statements.rows("sealed_values.other_secrets")[0][0] else secrets.token_bytes(SEED_LENGTH)
        if seed == key and not _opens_rows(statements, derive(key, b"store")):
            raise SetupError(_OTHER_KEY_FILE.format(file.path, store))
        sealed.add(_CHECK, _CHECKED)
        sealed.add(SIGNING_KEYS, SigningKeys(seed).dump())
        sealed.add(_USER_NAMES, derive(seed, b"user names"))


def _opens_rows(statements: Statements, store_key: bytes) -> bool:
    """Return whether a store key opens the first agent's or token's secret; a token of 0.1 is not sealed."""
    cipher = SecretCipher(store_key)
    rows = [row[1:] for row in statements.rows("sealed_values.agent_keys", (-1, 1))]
    rows += [row for row in statements.rows("sealed_values.token_keys") if len(row[1]) != _PROOF_KEY]
    opened = 0
    for name, encrypted in rows:
        try:
            cipher.decrypt(bytes(encrypted), name)
        except InvalidTag:
            continue
        opened += 1
    return bool(opened) or not rows


def reseal(database: Database, file: KeyFile, store: StoreLocation) -> int:
    """Seal everything anew with a new key in the place of the key file's; return the number of secrets.

    Ended at any point it can be repeated, and a manager can be started: the new key is in ``{file}.next`` before the
    store is sealed with it in one transaction, so the store belongs to either of two files that exist; the second then
    takes the place of the first. Nothing is sealed before the file was replaced once by a copy of itself, so that a
    file that cannot be replaced is refused while the store belongs to it.

    Args:
        database: the store's, open and migrated, without another writer.
        file: the key file.
        store: the store's place.

    Raises:
        SetupError: the key file is not the store's, or a file cannot be written.
    """
    secrets_before = open_secrets(database, file, store)
    before = file.read()
    if before is None:
        raise SetupError(f"the key file {file.path} is missing")
    if not SealedValues(database, before).belongs():
        raise SetupError(
            f"an earlier rotation is not complete: the key of the store {store} is in {file.next.path}, which cannot"
            f" replace {file.path}: put its content there by hand"
        )
    file.require_replaceable(before)
    after = file.next.create()
    old, new = SecretCipher(secrets_before.store_key), SecretCipher(derive(after, b"store"))
    with database.atomic("IMMEDIATE"):
        count = _reseal_rows(Statements(database), old, new)
        count += _reseal_values(database, before, after)
    file.take_next()
    return count


def count_sealed(database: Database) -> int:
    """Return the number of secrets that are sealed with the key file, directly or by the store key."""
    return int(Statements(database).rows("sealed_values.count")[0][0])


def _reseal_values(database: Database, before: bytes, after: bytes) -> int:
    old, new = SealedValues(database, before), SealedValues(database, after)
    names = [name for name, _ in Statements(database).rows("sealed_values.all")]
    for name in names:
        value = old.get(name)
        if value is not None:
            new.put(name, value)
    return len(names)


def _reseal_rows(statements: Statements, old: SecretCipher, new: SecretCipher) -> int:
    count, last = 0, -1
    while rows := statements.rows("sealed_values.agent_keys", (last, _PIECE)):
        changed = [(new.encrypt(old.decrypt(bytes(keys), name), name), number) for number, name, keys in rows]
        statements.execute_many("sealed_values.set_agent_keys", changed)
        count, last = count + len(rows), rows[-1][0]
    tokens = statements.rows("sealed_values.token_keys")
    for name, proof_key in tokens:
        stored = bytes(proof_key)
        plain = stored if len(stored) == _PROOF_KEY else old.decrypt(stored, name)
        statements.execute("sealed_values.set_token_key", (new.encrypt(plain, name), name))
    return count + len(tokens)

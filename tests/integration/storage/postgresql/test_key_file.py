"""The key file of a store in PostgreSQL: it belongs to the database, and is rotated while no manager runs."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from manager.errors import SetupError
from manager.key_file import KeyFile
from manager.key_rotation import rotate_key_file
from manager.storage.opening import open_migrated_store
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.lease import LeaseTable, Member
from manager.storage.sealed_values import SealedValues, StoreSecrets, key_for, open_secrets

pytestmark = pytest.mark.postgresql


def opened(address: DatabaseAddress, file: Path) -> StoreSecrets:
    with closing(open_migrated_store(address)) as database:
        return open_secrets(database, KeyFile(file), address)


def test_the_first_manager_makes_the_key_file_and_others_need_it(
    postgresql_empty: DatabaseAddress, tmp_path: Path
) -> None:
    """A new database takes any key file; after that one without it, or with another, is refused and makes none."""
    first, second = tmp_path / "first.key", tmp_path / "second.key"
    secrets = opened(postgresql_empty, first)
    with pytest.raises(SetupError, match=r"second\.key is missing"):
        opened(postgresql_empty, second)
    assert not second.exists()
    KeyFile(second).create()
    with pytest.raises(SetupError, match=r"this database belongs to another key file: .*second\.key"):
        opened(postgresql_empty, second)
    second.write_text(first.read_text())
    assert opened(postgresql_empty, second).signing_keys == secrets.signing_keys


def test_of_two_managers_that_seal_a_new_database_at_once_one_is_refused(
    postgresql_empty: DatabaseAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find nothing sealed, and both have a key file: the second to seal finds the first one's."""
    look = SealedValues.belongs
    looked: list[bool | None] = []

    def look_and_let_the_other_seal(sealed: SealedValues) -> bool | None:
        looked.append(look(sealed))
        if len(looked) == 1:
            opened(postgresql_empty, tmp_path / "other.key")
        return looked[0] if len(looked) == 2 else look(sealed)

    KeyFile(tmp_path / "other.key").create()
    KeyFile(tmp_path / "one.key").create()
    monkeypatch.setattr(SealedValues, "belongs", look_and_let_the_other_seal)
    with pytest.raises(SetupError, match=r"this database belongs to another key file: .*one\.key"):
        opened(postgresql_empty, tmp_path / "one.key")


@pytest.fixture
def living(postgresql_empty: DatabaseAddress) -> Iterator[LeaseTable]:
    open_migrated_store(postgresql_empty).close()
    with closing(LeaseTable(postgresql_empty)) as table:
        yield table


def test_the_key_file_is_rotated_while_no_manager_runs(
    postgresql_empty: DatabaseAddress, living: LeaseTable, tmp_path: Path
) -> None:
    """A manager on any host refuses the rotation, and is named; without one the secrets are sealed with a new key."""
    file = tmp_path / "manager.key"
    secrets = opened(postgresql_empty, file)
    before = file.read_text()
    living.announce(Member("m-1", "h", "http://h:1", "mqtt://b", "1", (), "standby"))
    living.announce(Member("m-2", "h", "http://h:2", "mqtt://b", "1", (), "ingest"))
    with pytest.raises(
        SetupError, match=r"managers run on the database .*: http://h:1 \(standby\), http://h:2 \(ingest\); stop"
    ):
        rotate_key_file(tmp_path, None, postgresql_empty)
    living.withdraw("m-1")
    living.withdraw("m-2")
    told = rotate_key_file(tmp_path, None, postgresql_empty, dry_run=True)
    assert (told.secrets, file.read_text()) == (3, before)
    assert rotate_key_file(tmp_path, None, postgresql_empty) == told
    assert file.read_text() != before
    assert opened(postgresql_empty, file).signing_keys == secrets.signing_keys
    with closing(open_migrated_store(postgresql_empty)) as database:
        assert key_for(KeyFile(file), postgresql_empty, database)

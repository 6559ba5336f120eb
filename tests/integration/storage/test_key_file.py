"""The key file: made once, refused where it is another's, rotated whole; killed at any point nothing is lost."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from peewee import Database

from manager.data_directory import DataDirectory
from manager.errors import DataDirectoryInUse, SetupError
from manager.key_file import KeyFile
from manager.key_rotation import rotate_key_file
from manager.storage import tables
from manager.storage.connection import open_store
from manager.storage.migrate import migrate
from manager.storage.sealed_values import SealedValues, StoreSecrets, open_secrets
from manager.storage.store import PeeweeStore
from schemas.keys import ManagerKeyring
from tests.support.engine import Bench

_KILLED_AT = """
import os, signal, sys
from pathlib import Path
from manager import key_rotation
from manager.key_file import KeyFile
from manager.storage import sealed_values

def killed(*_args):
    os.kill(os.getpid(), signal.SIGKILL)

renamed = []
rename = KeyFile.take_next

def killed_at_the_second(file):
    if renamed:
        killed()
    renamed.append(file)
    rename(file)

point = sys.argv[2]
if point == "before the key":
    KeyFile.create = killed
elif point == "before the store":
    sealed_values._reseal_rows = killed
elif point == "within the store":
    sealed_values._reseal_values = killed
elif point == "before the rename":
    KeyFile.take_next = killed_at_the_second
key_rotation.rotate_key_file(Path(sys.argv[1]), None)
"""

_ON_A_MOUNT = """
import sys
from pathlib import Path
from manager import key_rotation
from manager.errors import SetupError

try:
    key_rotation.rotate_key_file(Path(sys.argv[1]), None, dry_run=sys.argv[2] == "open")
    print("done")
except SetupError as error:
    print(error)
"""


@contextmanager
def _opened(directory: Path) -> Iterator[Database]:
    database = open_store(directory / "panguard.db")
    tables.database.initialize(database)
    try:
        migrate(database, directory / "panguard.db")
        yield database
    finally:
        database.close()


def _secrets(directory: Path, key_file: Path | None = None) -> StoreSecrets:
    with DataDirectory(directory, key_file) as data, _opened(directory) as database:
        return open_secrets(database, data.key_file, data.store)


def _legacy(directory: Path) -> tuple[str, str]:
    """Make a data directory as an earlier release left it; return its signing key and the agent's MQTT digest."""
    directory.mkdir(mode=0o700, exist_ok=True)
    (directory / "manager.key").touch(0o600)
    (directory / "manager.key").write_text(bytes(32).hex())
    bench = Bench(directory)
    bench.enroll("srv-01")
    with closing(bench.database):
        (agent,) = bench.store.load().agents
    return bench.keyring.sign_public, agent.credential.secret.hex()


def _agent_secret(directory: Path, opened: StoreSecrets) -> str:
    with _opened(directory) as database:
        (agent,) = PeeweeStore(database, opened.store_key).load().agents
    return agent.credential.secret.hex()


def test_a_new_store_has_a_signing_key_that_its_key_file_does_not_tell(tmp_path: Path) -> None:
    """The signing key is random and sealed; the file alone signs nothing, and both are the same at the next start."""
    first = _secrets(tmp_path)
    key = KeyFile(tmp_path / "manager.key").read()
    assert key is not None
    assert first.signing_keys.public != ManagerKeyring(key).sign_public
    assert _secrets(tmp_path) == first
    assert first.signing_keys.seed not in (tmp_path / "panguard.db").read_bytes()
    assert (tmp_path / "manager.key").stat().st_mode & 0o777 == 0o600


def test_a_store_of_an_earlier_release_keeps_its_keys(tmp_path: Path) -> None:
    """Guards go on trusting the manager, agents' secrets open, and the key file may move where it is wanted."""
    public, secret = _legacy(tmp_path / "data")
    opened = _secrets(tmp_path / "data")
    assert opened.signing_keys.public == public
    assert opened.user_name_key == ManagerKeyring(bytes(32)).user_name_key
    assert _agent_secret(tmp_path / "data", opened) == secret
    elsewhere = tmp_path / "keys"
    elsewhere.mkdir()
    (tmp_path / "data" / "manager.key").rename(elsewhere / "panguard.key")
    assert _secrets(tmp_path / "data", elsewhere / "panguard.key") == opened
    with pytest.raises(SetupError, match="put the key file back from a backup, or name it by --key-file"):
        _secrets(tmp_path / "data")


def test_the_key_of_another_database_is_refused(tmp_path: Path) -> None:
    """Two managers' key files swapped: neither starts, and nothing is written."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        _secrets(tmp_path / name)
    one, two = tmp_path / "one" / "panguard.db", tmp_path / "two" / "manager.key"
    before = one.read_bytes()
    with pytest.raises(SetupError, match="this database belongs to another key file"):
        _secrets(tmp_path / "one", two)
    assert one.read_bytes() == before


def test_another_key_is_not_adopted_by_a_store_of_an_earlier_release(tmp_path: Path) -> None:
    """A store whose agents' secrets the file does not open gets no sealed value of it."""
    _legacy(tmp_path)
    (tmp_path / "manager.key").write_text("ab" * 32)
    with pytest.raises(SetupError, match="this database belongs to another key file"):
        _secrets(tmp_path)
    (tmp_path / "manager.key").write_text(bytes(32).hex())
    assert _secrets(tmp_path).signing_keys.public == ManagerKeyring(bytes(32)).sign_public


def test_a_value_does_not_stand_for_another(tmp_path: Path) -> None:
    """Rows that somebody swaps in the database do not open: the name is sealed with the value."""
    _secrets(tmp_path)
    with _opened(tmp_path) as database:
        database.execute_sql("UPDATE sealed_value SET name = 'x' WHERE name = 'user_names'")
        database.execute_sql("UPDATE sealed_value SET name = 'user_names' WHERE name = 'signing_keys'")
        database.execute_sql("UPDATE sealed_value SET name = 'signing_keys' WHERE name = 'x'")
    with pytest.raises(InvalidTag):
        _secrets(tmp_path)


@pytest.mark.parametrize("content", [b"", b"ab" * 31, b"ab" * 33, b"zz" * 32, b"\xff" * 64])
def test_a_damaged_file_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    """A truncated, empty or foreign file is never overwritten; the sentence names the remedy."""
    path = tmp_path / "manager.key"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(SetupError, match="is damaged: it holds no 32 bytes in hexadecimal"):
        KeyFile(path).read()
    with pytest.raises(SetupError, match="appeared while it was created"):
        KeyFile(path).create()
    assert path.read_bytes() == content


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o666])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    """The mode of the file that a link leads to counts, too."""
    path, link = tmp_path / "some.key", tmp_path / "link.key"
    KeyFile(path).create()
    link.symlink_to(path)
    assert KeyFile(link).read() == KeyFile(path).read()
    path.chmod(mode)
    for each in (path, link):
        with pytest.raises(SetupError, match=r"other users of this machine may read .* chmod 600"):
            KeyFile(each).read()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A directory or a pipe is refused at once, and a link to nothing is not followed to create a key elsewhere."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(SetupError, match=r"is not a file|cannot be read"):
            KeyFile(tmp_path / name).read()
    (tmp_path / "dangling").symlink_to(tmp_path / "elsewhere")
    assert KeyFile(tmp_path / "dangling").read() is None
    with pytest.raises(SetupError, match="is a link to no file"):
        KeyFile(tmp_path / "dangling").create()
    assert not (tmp_path / "elsewhere").exists()


def test_a_rotation_seals_everything_with_another_key(tmp_path: Path) -> None:
    """Every secret opens with the new key and none with the former; signing key and agents are as they were."""
    public, secret = _legacy(tmp_path)
    before = _secrets(tmp_path)
    told = rotate_key_file(tmp_path, None, dry_run=True)
    assert _secrets(tmp_path) == before
    assert rotate_key_file(tmp_path, None) == told
    after = _secrets(tmp_path)
    assert after.store_key != before.store_key
    assert after.signing_keys == before.signing_keys
    assert after.signing_keys.public == public
    assert after.user_name_key == before.user_name_key
    assert _agent_secret(tmp_path, after) == secret
    with _opened(tmp_path) as database:
        assert SealedValues(database, bytes(32)).belongs() is False
        with pytest.raises(InvalidTag):
            PeeweeStore(database, before.store_key).load()
    assert not (tmp_path / "manager.key.next").exists()


@pytest.mark.parametrize("point", ["before the key", "before the store", "within the store", "before the rename"])
def test_a_rotation_that_was_killed_is_taken_up(tmp_path: Path, point: str) -> None:
    """Killed anywhere, the manager starts with all of its secrets, and the rotation can be given again."""
    public, secret = _legacy(tmp_path)
    before = _secrets(tmp_path)
    killed = subprocess.run(  # noqa: S603 -- this very test's code
        [sys.executable, "-c", _KILLED_AT, str(tmp_path), point], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    opened = _secrets(tmp_path)
    assert (opened.store_key != before.store_key) == (point == "before the rename")
    assert _agent_secret(tmp_path, opened) == secret
    rotate_key_file(tmp_path, None)
    again = _secrets(tmp_path)
    assert again.store_key not in {before.store_key, opened.store_key}
    assert again.signing_keys.public == public
    assert _agent_secret(tmp_path, again) == secret


def _on_a_mount(directory: Path, action: str) -> str:
    """Open a store, or rotate its key file, while the file is a mount of its own; return the answer."""
    words = ["unshare", "--mount", "sh", "-c", 'mount --bind "$1" "$1" || exit 77; shift; exec "$@"', "sh"]
    words += [str(directory / "manager.key"), sys.executable, "-c", _ON_A_MOUNT, str(directory), action]
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a mount takes root and unshare")
    ended = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 -- our own command
    if ended.returncode == 77:
        pytest.skip(f"nothing can be mounted here: {ended.stderr}")
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_key_file_that_is_a_mount_is_refused_before_anything_is_sealed(tmp_path: Path) -> None:
    """As it is mounted into a container: the store stays sealed with the key of the file, and no other key is left."""
    before = _secrets(tmp_path)
    content = (tmp_path / "manager.key").read_text()
    assert "cannot be replaced, and nothing was changed" in _on_a_mount(tmp_path, "rotate")
    assert (tmp_path / "manager.key").read_text() == content
    assert not list(tmp_path.glob("*.next"))
    assert _secrets(tmp_path) == before


def test_a_next_key_that_cannot_take_its_place_opens_the_store(tmp_path: Path) -> None:
    """A file that became a mount after the store was sealed: it opens the store, and no rotation loses it."""
    before = _secrets(tmp_path)
    subprocess.run(  # noqa: S603 -- this very test's code
        [sys.executable, "-c", _KILLED_AT, str(tmp_path), "before the rename"], check=False
    )
    following = (tmp_path / "manager.key.next").read_text()
    assert "done" in _on_a_mount(tmp_path, "open")
    assert "an earlier rotation is not complete" in _on_a_mount(tmp_path, "rotate")
    assert (tmp_path / "manager.key.next").read_text() == following
    assert _secrets(tmp_path).store_key != before.store_key
    assert (tmp_path / "manager.key").read_text() == following


@pytest.mark.parametrize("killed", [False, True])
def test_a_rotation_behind_a_link_replaces_the_file_that_it_leads_to(tmp_path: Path, *, killed: bool) -> None:
    """A deployment that makes the link anew finds the new key, and the former one is nowhere."""
    _secrets(tmp_path)
    elsewhere = tmp_path / "keys"
    elsewhere.mkdir()
    link, target = tmp_path / "manager.key", elsewhere / "some.key"
    link.rename(target)
    link.symlink_to(target)
    former = target.read_text()
    if killed:
        subprocess.run(  # noqa: S603 -- this very test's code
            [sys.executable, "-c", _KILLED_AT, str(tmp_path), "before the rename"], check=False
        )
        assert (elsewhere / "some.key.next").exists()
    else:
        rotate_key_file(tmp_path, None)
    opened = _secrets(tmp_path)
    assert link.is_symlink()
    link.unlink()
    link.symlink_to(target)
    assert _secrets(tmp_path) == opened
    assert [each.name for each in elsewhere.iterdir()] == ["some.key"]
    assert target.read_text() != former


def test_a_rotation_beside_a_manager_or_without_a_key_is_refused(tmp_path: Path) -> None:
    """The lock of the data directory is asked for; no key is created for a rotation."""
    _secrets(tmp_path)
    with DataDirectory(tmp_path), pytest.raises(DataDirectoryInUse):
        rotate_key_file(tmp_path, None)
    with pytest.raises(SetupError, match="is missing: put it back"):
        rotate_key_file(tmp_path, tmp_path / "no.key")
    assert not (tmp_path / "no.key").exists()
    with pytest.raises(SetupError, match="there is no store in"):
        rotate_key_file(tmp_path / "nothing", None)


def test_the_broker_password_is_sealed_for_a_manager_without_its_file(tmp_path: Path) -> None:
    """The file goes before the sealed one and replaces it; a rotation of the key file keeps it."""
    for given, expected in (("one-pw", "one-pw"), (None, "one-pw"), ("two-pw", "two-pw"), (None, "two-pw")):
        with DataDirectory(tmp_path) as data, _opened(tmp_path) as database:
            values = open_secrets(database, data.key_file, data.store).values
            assert values.keep_text("broker_password", given) == expected
    assert b"two-pw" not in (tmp_path / "panguard.db").read_bytes()
    rotate_key_file(tmp_path, None)
    with DataDirectory(tmp_path) as data, _opened(tmp_path) as database:
        assert open_secrets(database, data.key_file, data.store).values.keep_text("broker_password", None) == "two-pw"

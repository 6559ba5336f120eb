"""Encrypted proof keys of enrollment tokens in the store."""

from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag

from manager.engine.batch import Changes
from manager.storage.store import PeeweeStore
from tests.support.engine import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def _kept(bench: Bench) -> bytes:
    return bytes(bench.database.execute_sql("SELECT proof_key FROM enrollment_token").fetchone()[0])


def test_the_store_has_no_plain_proof_key(bench: Bench) -> None:
    """The proof key is not in the file, and is decrypted by a load."""
    token = bench.token()
    bench.database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    assert token.proof_key not in (bench.directory / "panguard.db").read_bytes()
    (loaded,) = PeeweeStore(bench.database, bench.keyring.store_key).load().tokens
    assert loaded.proof_key == token.proof_key


def test_a_proof_key_is_bound_to_its_token(bench: Bench) -> None:
    """Moved to another token, or read with another store key, it cannot be decrypted."""
    bench.token()
    with pytest.raises(InvalidTag):
        PeeweeStore(bench.database, bytes(31) + b"x").load()
    bench.database.execute_sql("UPDATE enrollment_token SET token_id = 'another'")
    with pytest.raises(InvalidTag):
        PeeweeStore(bench.database, bench.keyring.store_key).load()


def test_a_plain_proof_key_of_an_earlier_release_is_encrypted_at_its_next_write(bench: Bench) -> None:
    """An earlier release stored proof keys unencrypted; they stay valid."""
    token = bench.token()
    bench.database.execute_sql("UPDATE enrollment_token SET proof_key = ?", (token.proof_key,))
    store = PeeweeStore(bench.database, bench.keyring.store_key)
    (loaded,) = store.load().tokens
    assert loaded.proof_key == token.proof_key
    store.commit(Changes(tokens={loaded.token_id: loaded}))
    assert token.proof_key not in _kept(bench)
    assert store.load().tokens == [loaded]

"""The command line over TLS: what it does not believe, what it keeps off plain text, how it makes certificates."""

import gc
import json
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from manager.cli import app
from manager.cli.support.failures import ExitCode
from tests.support.impostor import Authority, Impostor

TOKEN = "the-admins-own-token"
COMMANDS = {
    "https": ("status", "--manager", "--auth-token", TOKEN),
    "mqtts": ("traffic", "--broker", "--credential-file", "observer"),
}
SENTENCES = {
    "man in the middle": "nobody that is trusted here has signed it",
    "wrong authority": "nobody that is trusted here has signed it",
    "expired": "it has expired; on the manager, run panguard manager certs renew",
    "other hosts": "it is for other names than this",
}


@pytest.fixture(autouse=True)
def _swept() -> Iterator[None]:
    """Have such sockets collected before the next test."""
    yield
    gc.collect()


def run(*arguments: str) -> Result:
    names = ("MANAGER_AUTH_TOKEN", "MANAGER_URL", "PANGUARD_DATA_DIR", "PANGUARD_CA_FILE")
    return CliRunner().invoke(app, list(arguments), env={"NO_COLOR": "1", **dict.fromkeys(names)})


@pytest.fixture
def observer(tmp_path: Path) -> Path:
    path = tmp_path / "observer"
    path.write_text("observer:the-observers-own-password")
    return path


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "theirs")


def ask(scheme: str, port: int, observer: Path, *more: str) -> Result:
    command, flag, *secret = (str(observer) if word == "observer" else word for word in COMMANDS[scheme])
    return run(command, flag, f"{scheme}://127.0.0.1:{port}", *secret, *more)


@pytest.mark.parametrize("scheme", COMMANDS)
@pytest.mark.parametrize("false", SENTENCES)
def test_a_false_certificate_hears_no_secret(
    scheme: str, false: str, ours: Authority, theirs: Authority, observer: Path
) -> None:
    """Exit code 7, one sentence that says why and what to do, and not a byte of the admin's token or a password."""
    certificate = {
        "man in the middle": lambda: theirs.server("false", beside=[ours]),
        "wrong authority": lambda: theirs.server("false"),
        "expired": lambda: ours.server("false", days=-3),
        "other hosts": lambda: ours.server("false", ["other.example"]),
    }[false]()
    with Impostor(*certificate) as impostor:
        result = ask(scheme, impostor.port, observer, "--ca-file", str(ours.file))
    assert result.exit_code == ExitCode.UNTRUSTED, result.output
    assert SENTENCES[false] in result.stderr
    assert result.stderr.count("\n") == 1
    assert impostor.heard == b""
    assert impostor.met == 1


@pytest.mark.parametrize("scheme", COMMANDS)
def test_a_right_certificate_hears_the_command(scheme: str, ours: Authority, observer: Path) -> None:
    """The same, rightly signed: then it is the answer that is missing."""
    with Impostor(*ours.server("true")) as manager:
        result = ask(scheme, manager.port, observer, "--ca-file", str(ours.file))
    assert result.exit_code == ExitCode.UNREACHABLE
    assert manager.heard


@pytest.mark.parametrize("url", ["http://192.0.2.1:8443", "http://manager.example", "mqtt://192.0.2.1"])
def test_secrets_go_to_no_other_machine_in_plain_text(url: str, observer: Path) -> None:
    """The refusal comes before anything is sent, and names what to write."""
    command = (
        ("status", "--manager", url, "--auth-token", TOKEN)
        if url.startswith("http")
        else ("traffic", "--broker", url, "--credential-file", str(observer))
    )
    result = run(*command)
    assert result.exit_code == ExitCode.UNTRUSTED
    assert "--insecure" in result.stderr
    assert f"{url.partition(':')[0]}s://" in result.stderr


def test_init_makes_private_files_once(tmp_path: Path) -> None:
    """Six files for their owner alone; a second run changes nothing, and says what else to do."""
    here = ("--data-dir", str(tmp_path / "data"))
    assert run("certs", "init", "--host", "manager.example", "--host", "192.0.2.7", *here).exit_code == ExitCode.OK
    folder = tmp_path / "data" / "tls"
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(files) == {"ca.crt", "ca.key", "http.crt", "http.key", "broker.crt", "broker.key"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    again = run("certs", "init", *here)
    assert again.exit_code == ExitCode.FAILURE
    assert "certs renew" in again.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    listed = {record["certificate"]: record for record in json.loads(run("certs", "list", "-o", "json", *here).stdout)}
    assert {"manager.example", "192.0.2.7", "localhost", "127.0.0.1", "::1"} <= set(listed["http"]["names"])
    assert listed["broker"]["daysLeft"] == 396  # of 397, a moment ago
    assert listed["ca"]["daysLeft"] > 3600
    assert all(record["fingerprint"] and record["subject"] for record in listed.values())


def test_renew_keeps_authority_and_names(tmp_path: Path) -> None:
    """Clients of the authority trust the new certificates; given hosts replace the old ones."""
    here = ("--data-dir", str(tmp_path))
    run("certs", "init", "--host", "manager.example", *here)
    folder = tmp_path / "tls"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run("certs", "renew", "--days", "5", *here).exit_code == ExitCode.OK
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name for name in before if before[name] == after[name]} == {"ca.crt", "ca.key"}
    assert set(before) == set(after)
    names = ssl._ssl._test_decode_cert(str(folder / "http.crt"))["subjectAltName"]
    assert ("DNS", "manager.example") in names
    assert run("certs", "renew", "--host", "new.example", *here).exit_code == ExitCode.OK
    renewed = json.loads(run("certs", "list", "-o", "json", *here).stdout)
    assert "new.example" in renewed[1]["names"]
    assert "manager.example" not in renewed[1]["names"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("renew",), "panguard manager certs init makes an authority"),
        (("list",), "create them with panguard manager certs init"),
        (("init", "--host", "no host"), "is not valid in a certificate"),
    ],
)
def test_mistakes_are_sentences(tmp_path: Path, words: tuple[str, ...], sentence: str) -> None:
    """Each says what to do, and leaves nothing behind."""
    result = run("certs", *words, "--data-dir", str(tmp_path))
    assert result.exit_code != ExitCode.OK
    assert sentence in result.stderr
    assert not (tmp_path / "tls").exists()

"""`panguard manager certs`: the manager's own certificate authority and server certificates."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manager.cli.support.durations import parse_days
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.manager_connection import data_directory
from manager.cli.support.options import DataDir, Once, Output, OutputOption

if TYPE_CHECKING:
    from manager.tls.directory import TlsDirectory

app = typer.Typer(help="Certificates of the HTTP server and the broker.", no_args_is_help=True)

_MOST_DAYS = 3650

Host = Annotated[
    list[str] | None,
    typer.Option("--host", metavar="NAME|IP", help="further names and addresses of this machine; repeatable"),
]
Days = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="validity of the server certificates: 90d, at most 3650d [default: 397d]"),
]


@app.command("init")
def init(*, host: Host = None, days: Days = None, once: Once = False, data_dir: DataDir = None) -> None:
    """Create an authority and certificates in the data directory; a manager started on it uses TLS."""
    directory = _directory(data_dir)
    if once and _is_made(directory):
        typer.echo(f"{directory.path} already exists")
        return
    _make(directory.init, host, days)
    typer.echo(f"created {directory.path}; (re)start the manager, and give guards a new enrollment token or ca.crt")


@app.command("renew")
def renew(*, host: Host = None, days: Days = None, data_dir: DataDir = None) -> None:
    """Create new certificates under the same authority, for the same names unless others are given."""
    directory = _directory(data_dir)
    _make(directory.renew, host, days)
    typer.echo(f"renewed {directory.path}; a running manager loads them by itself, your own broker when it reloads")


@app.command("list")
def list_certificates(*, data_dir: DataDir = None, output: OutputOption = Output.TABLE) -> None:
    """List the certificates of the data directory: names, expiry and fingerprints."""
    from manager.cli.support.printing import print_json  # noqa: PLC0415 -- rich takes a while to load
    from manager.cli.support.wrapping import print_details  # noqa: PLC0415 -- the same
    from manager.tls.certificates import CertificateError, days_left  # noqa: PLC0415 -- cryptography takes a while to load
    from schemas.model import iso  # noqa: PLC0415 -- the same

    directory = _directory(data_dir)
    try:
        found = directory.certificates()
    except CertificateError as error:
        raise CommandFailed(ExitCode.FAILURE, str(error)) from error
    if not found:
        sentence = f"there are no certificates in {directory.path}: create them with panguard manager certs init"
        raise CommandFailed(ExitCode.NOT_FOUND, sentence)
    now = datetime.now(UTC).timestamp()
    records: list[dict[str, Any]] = [
        {
            "certificate": name,
            "file": str(path),
            "subject": certificate.subject,
            "names": list(certificate.names),
            "expiresAt": iso(certificate.expires_at),
            "daysLeft": days_left(certificate.expires_at, now),
            "fingerprint": certificate.fingerprint,
        }
        for name, path, certificate in found
    ]
    if output is Output.JSON:
        print_json(records)
    else:
        members = ("file", "subject", "names", "expiresAt", "daysLeft", "fingerprint")
        for record in records:
            print_details(f"certificate {record['certificate']}", [(name, record[name]) for name in members])


def _directory(data_dir: Path | None) -> "TlsDirectory":
    from manager.tls.directory import TlsDirectory  # noqa: PLC0415 -- cryptography takes a while to load

    return TlsDirectory(data_directory(data_dir))


def _is_made(directory: "TlsDirectory") -> bool:
    from manager.tls.certificates import CertificateError  # noqa: PLC0415 -- cryptography takes a while to load

    try:
        return directory.authority() is not None
    except CertificateError as error:
        raise CommandFailed(ExitCode.FAILURE, str(error)) from error


def _make(work: Any, host: list[str] | None, days: str | None) -> None:
    from manager.tls.authority import SERVER_DAYS  # noqa: PLC0415 -- cryptography takes a while to load
    from manager.tls.certificates import CertificateError  # noqa: PLC0415 -- the same

    try:
        work(host or (), datetime.now(UTC), SERVER_DAYS if days is None else parse_days(days, least=1, most=_MOST_DAYS))
    except CertificateError as error:
        raise CommandFailed(ExitCode.FAILURE, str(error)) from error

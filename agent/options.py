"""What an operator says when a guard is started, checked before anything is touched."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from agent.errors import ConfigurationError
from agent.link.address import ManagerAddress
from schemas.identifiers import Hostname, Label, OrganizationId
from schemas.keys import EnrollmentToken
from schemas.loopback import is_loopback
from schemas.presence import Mode

_MAX_TOKEN = 4096

Watch = Literal["auto", "none"]


class _Names(BaseModel):
    """The names in a registration, by the contract's grammar."""

    model_config = ConfigDict(frozen=True)

    hostname: Hostname | None
    organization: OrganizationId | None
    site: Label | None
    tag: list[Label]


@dataclass(frozen=True, slots=True)
class Options:
    """What an operator says when a guard is started.

    Attributes:
        manager: The address of the manager, or of its broker.
        directory: The data directory.
        mode: What to do with a verdict.
        logs: The log files to watch that vouch for nothing.
        trusted_logs: The log files to watch for which the operator vouches.
        watch: ``auto`` for the best log that the host has, ``none`` for nothing; None for ``auto`` where no file is
            named.
        hostname: The host's name in the fleet; None for its own.
        organization: The organization to register in.
        site: Where the host stands.
        tags: Words for it.
        token: What to register with; None once it is registered.
        ca_file: Whom to trust for the certificate at that address.
        insecure: Whether plain text may leave this host.
    """

    manager: ManagerAddress
    directory: Path
    mode: Mode
    logs: tuple[Path, ...] = ()
    trusted_logs: tuple[Path, ...] = ()
    watch: Watch | None = None
    hostname: str | None = None
    organization: str | None = None
    site: str | None = None
    tags: tuple[str, ...] = ()
    token: EnrollmentToken | None = field(default=None, repr=False)
    ca_file: Path | None = None
    insecure: bool = False

    @classmethod
    def check(
        cls,
        *,
        manager: str,
        directory: Path,
        mode: Mode,
        logs: Sequence[Path] = (),
        trusted_logs: Sequence[Path] = (),
        watch: Watch | None = None,
        hostname: str | None = None,
        organization: str | None = None,
        site: str | None = None,
        tags: Sequence[str] = (),
        token: str | None = None,
        ca_file: Path | None = None,
        insecure: bool = False,
    ) -> Self:
        """Return the options, every one of them read and found good.

        Raises:
            ConfigurationError: one is not; the text names it.
            TokenError: the token is none.
        """
        try:
            names = _Names(hostname=hostname, organization=organization, site=site, tag=list(tags))
        except ValidationError as error:
            name = str(error.errors()[0]["loc"][0])
            raise ConfigurationError(
                f"--{name} has a character that names in the fleet cannot have, or is too long:"
                " use letters, digits, dots, dashes and underscores"
            ) from error
        address, secret = ManagerAddress.parse(manager), EnrollmentToken.parse(token) if token else None
        if not (address.tls or insecure or is_loopback(address.host)):
            raise ConfigurationError(
                f"{address} is another machine, and what is said to it would go in plain text: write"
                f" {address.scheme}s:// (on the manager, panguard manager certs init makes certificates),"
                " or say --insecure"
            )
        files = tuple(log.absolute() for log in (*logs, *trusted_logs))
        if len(set(files)) < len(files):
            raise ConfigurationError("one log is named twice by --watch-log or --trust-log: name each once")
        if watch == "none" and files:
            raise ConfigurationError(
                "--watch none reads no log: leave it out, or name no log by --watch-log or --trust-log"
            )
        return cls(
            manager=address,
            directory=directory.absolute(),
            mode=mode,
            logs=files[: len(logs)],
            trusted_logs=files[len(logs) :],
            watch=watch,
            hostname=names.hostname,
            organization=names.organization,
            site=names.site,
            tags=tuple(names.tag),
            token=secret,
            ca_file=ca_file,
            insecure=insecure,
        )

    @property
    def watches_auto(self) -> bool:
        """Whether the guard chooses a log of the host by itself."""
        return self.watch == "auto" or (self.watch is None and not self.logs and not self.trusted_logs)

    def arguments(self) -> list[str]:
        """Return the flags of ``guard start`` that mean the same; the token is not among them."""
        flags = {
            "--manager": str(self.manager),
            "--data-dir": str(self.directory),
            "--mode": str(self.mode),
            "--watch": self.watch,
            "--hostname": self.hostname,
            "--organization": self.organization,
            "--site": self.site,
            "--ca-file": self.ca_file and self.ca_file.absolute(),
        }
        given = [word for flag, value in flags.items() if value is not None for word in (flag, str(value))]
        given += ["--insecure"] if self.insecure else []
        given += [word for log in self.logs for word in ("--watch-log", str(log))]
        given += [word for log in self.trusted_logs for word in ("--trust-log", str(log))]
        return given + [word for tag in self.tags for word in ("--tag", tag)]


def read_token_file(path: Path) -> str:
    """Return the token in a file.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(_MAX_TOKEN).decode("ascii", errors="replace").strip()
    except OSError as error:
        raise ConfigurationError(f"the token file {path} cannot be read: {error.strerror}") from error

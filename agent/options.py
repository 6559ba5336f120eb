"""The validated start options of a guard."""

from collections.abc import Callable, Sequence
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
    """The names in a registration, validated by the contract's grammar."""

    model_config = ConfigDict(frozen=True)

    hostname: Hostname | None
    organization: OrganizationId | None
    site: Label | None
    tag: list[Label]


def _option_error(name: str, sentence: str) -> ConfigurationError:
    return ConfigurationError(f"--{name} {sentence}")


@dataclass(frozen=True, slots=True)
class Options:
    """The start options of a guard.

    Attributes:
        manager: The address of the manager, or of its broker.
        directory: The data directory.
        mode: The mode of this host, where the policy sets none.
        max_mode: The most that this host allows: `learning` never acts, whatever the policy says.
        logs: The log files to watch whose writers are not proven.
        trusted_logs: The log files to watch for which the operator vouches.
        watch: ``auto`` for the best log that the host has, ``none`` for nothing; None for ``auto`` where no file is
            named.
        hostname: The hostname to register with; None for the host's own.
        organization: The organization to register in.
        site: The site.
        tags: The tags.
        token: The enrollment token; None for a registered guard.
        ca_file: The CA file that the manager's certificate is verified with.
        insecure: Whether connections to other hosts without TLS are allowed.
    """

    manager: ManagerAddress
    directory: Path
    mode: Mode
    max_mode: Mode = Mode.PROTECTION
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
        max_mode: Mode = Mode.PROTECTION,
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
        error: Callable[[str, str], ConfigurationError] = _option_error,
    ) -> Self:
        """Return validated options.

        `error` returns the error for a name and a sentence about it.

        Raises:
            ConfigurationError: an option is invalid; the text names it.
            TokenError: the token is invalid.
        """
        try:
            names = _Names(hostname=hostname, organization=organization, site=site, tag=list(tags))
        except ValidationError as fault:
            name = str(fault.errors()[0]["loc"][0])
            sentence = (
                "has a character that names in the fleet cannot have, or is too long:"
                " use letters, digits, dots, dashes and underscores"
            )
            raise error(name, sentence) from fault
        address, secret = ManagerAddress.parse(manager), EnrollmentToken.parse(token) if token else None
        if not (address.tls or insecure or is_loopback(address.host)):
            raise ConfigurationError(
                f"{address} is another machine, and the connection would be in plain text: write"
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
            max_mode=max_mode,
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
        """Whether the guard chooses a log of the host."""
        return self.watch == "auto" or (self.watch is None and not self.logs and not self.trusted_logs)

    def arguments(self) -> list[str]:
        """Return the equivalent flags of ``guard start``, without the token."""
        flags = {
            "--manager": str(self.manager),
            "--data-dir": str(self.directory),
            "--mode": str(self.mode),
            "--max-mode": str(self.max_mode),
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
    """Return the content of a token file.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(_MAX_TOKEN).decode("ascii", errors="replace").strip()
    except OSError as error:
        raise ConfigurationError(f"the token file {path} cannot be read: {error.strerror}") from error

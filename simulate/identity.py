"""The identities of simulated agents, and the directory that stores them for the next run."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from schemas import message_codes
from schemas.errors import SchemaError
from schemas.identifiers import DEFAULT_ORGANIZATION, is_identifier
from schemas.keys import SECRET_LENGTH, AgentKeys, new_secret
from simulate.errors import PlanError

_RESERVED = 1_000
"""The number of sessions reserved before a run connects, so that no session is used twice after a kill."""


@dataclass(slots=True)
class Identity:
    """One simulated agent's secret and registration; `http_token` is used only by the HTTP door."""

    hostname: str
    secret: bytes = field(default_factory=new_secret, repr=False)
    agent_id: str = ""
    organization_id: str = DEFAULT_ORGANIZATION
    session: int = 0
    http_token: str = field(default="", repr=False)
    keys: AgentKeys = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.keys = AgentKeys.derive(self.secret)

    def _as_line(self) -> str:
        return json.dumps(
            {
                "hostname": self.hostname,
                "secret": message_codes.to_base64url(self.secret),
                "agentId": self.agent_id,
                "organizationId": self.organization_id,
                "session": self.session,
                "httpToken": self.http_token,
            }
        )


class StateDirectory:
    """Stores the identities of one manager's simulated agents, one on a line; the last line of a hostname counts.

    Args:
        path: The directory; created with mode 0700 if missing.
        sign_key: The manager's public key in its token; each manager's identities have their own file.

    Raises:
        PlanError: the directory cannot be created, or the file cannot be read.
    """

    def __init__(self, path: Path, sign_key: str) -> None:
        self._file = path / f"agents-{sign_key[:16]}.jsonl"
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file.touch(mode=0o600)
            lines = self._file.read_text("utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise PlanError(f"{self._file} cannot be used to keep identities: name another directory") from error
        self._known = {}
        for line in lines:
            identity = _read(line)
            if identity is not None:
                self._known[identity.hostname] = identity

    def identity(self, hostname: str) -> Identity:
        """Return the identity of a hostname, a new one if none is stored."""
        known = self._known.get(hostname)
        return Identity(hostname) if known is None else known

    def keep(self, identity: Identity) -> None:
        """Store an identity with its registration."""
        self._known[identity.hostname] = identity
        with self._file.open("a", encoding="utf-8") as file:
            file.write(identity._as_line() + "\n")  # noqa: SLF001 -- the form in the file is this module's

    def reserve(self, identities: Iterable[Identity]) -> None:
        """Store a session number that these identities will not reach before `release`."""
        self._rewrite(identities, _RESERVED)

    def release(self, identities: Iterable[Identity]) -> None:
        """Store the session numbers that these identities have reached."""
        self._rewrite(identities, 0)

    def _rewrite(self, identities: Iterable[Identity], ahead: int) -> None:
        self._known |= {identity.hostname: identity for identity in identities}
        running = {identity.hostname for identity in identities}
        lines = []
        for identity in self._known.values():
            session = identity.session
            identity.session += ahead if identity.hostname in running else 0
            lines.append(identity._as_line() + "\n")  # noqa: SLF001 -- the form in the file is this module's
            identity.session = session
        other = self._file.with_suffix(".new")
        other.touch(mode=0o600)
        other.write_text("".join(lines), "utf-8")
        other.replace(self._file)


def _read(line: str) -> Identity | None:
    """Parse a line; return None for an incomplete one."""
    try:
        found = json.loads(line)
        secret = message_codes.from_base64url(found["secret"])
        agent_id, organization_id = found["agentId"], found["organizationId"]
        if len(secret) != SECRET_LENGTH or not is_identifier("agentId", agent_id):
            return None
        if not is_identifier("organizationId", organization_id):
            return None
        hostname, session, token = str(found["hostname"]), int(found["session"]), str(found["httpToken"])
        return Identity(hostname, secret, agent_id, organization_id, session, token)
    except (ValueError, TypeError, LookupError, RecursionError, SchemaError):
        return None

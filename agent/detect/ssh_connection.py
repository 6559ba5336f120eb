"""One ssh connection: counts the failed logins in its log lines."""

_SAME_PORT_FOR = 600.0
"""Seconds after which a peer's port counts as a new connection; clients reuse a port much later."""


class SshConnection:
    """Counts each failed login of one connection once, though sshd may log it in several lines.

    - Each secret that sshd refused is a failure. A keyboard-interactive one may be logged twice, by PAM and by sshd.
    - If no secret was refused, a connection that names an invalid or a forbidden user is one failure.
    - A connection that only offered keys is one failure once it has ended without a login.

    Attributes:
        port: The peer's port; None until a line names it.
        pid: The process of sshd that serves the connection; None until a line names it.
        logged_in: The connection logged in.
        ended: The connection ended before authentication.
        failures: The number of failed logins of this connection.
        contacted: The connection was counted as a contact that named no user.
    """

    __slots__ = (
        "_interactive",
        "_judged",
        "_keys",
        "_named",
        "_pam",
        "_passwords",
        "at",
        "contacted",
        "ended",
        "failures",
        "logged_in",
        "pid",
        "port",
    )

    def __init__(self, port: int | None, pid: int | None, at: float) -> None:
        self.at = at
        self.ended = False
        self.logged_in = False
        self.contacted = False
        self.port = port
        self.pid = pid
        self._passwords = 0
        self._pam = 0
        self._interactive = 0
        self._keys = False
        self._named = False
        self._judged = 0
        self.failures = 0

    def is_of(self, port: int | None, pid: int | None, at: float) -> bool:
        """Return whether a line with this port and process belongs to this connection."""
        if abs(at - self.at) > _SAME_PORT_FOR and pid != self.pid:
            return False
        if port is not None and self.port is not None:
            return port == self.port
        return pid == self.pid

    def join(self, port: int | None, pid: int | None, at: float) -> None:
        """Update port and process from a further line of this connection."""
        self.at = max(self.at, at)
        if self.port is None:
            self.port = port
        if self.pid is None:
            self.pid = pid

    @property
    def guessed(self) -> bool:
        """Whether a secret or a user name was guessed; False if only keys were offered."""
        return self._named or self._judged > 0

    @property
    def named_valid_user_in_vain(self) -> bool:
        """Whether the connection named a valid user and ended without a login or any other failure."""
        return self.ended and not self.logged_in and not self.failures

    @property
    def waits(self) -> bool:
        """Whether keys were refused and the connection may still log in."""
        return self._keys and not self.ended and not self.logged_in

    def refuse(self, method: str, count: int, *, by_pam: bool) -> None:
        """Count a credential that sshd, or PAM for sshd, refused."""
        if method == "publickey":
            self._keys = True
        elif not method.startswith("keyboard-interactive"):
            self._passwords += count
        elif by_pam:
            self._pam += count
        else:
            self._interactive += count
        self._count()

    def name_invalid_user(self) -> None:
        """Record that the user does not exist or may not log in."""
        self._named = True
        self._count()

    def end(self) -> None:
        """Record that the connection ended before authentication."""
        self.ended = True
        self._count()

    def log_in(self) -> None:
        """Record a successful login."""
        self.logged_in = True
        self._count()

    def use_up_attempts(self) -> None:
        """Record that sshd ended the connection after too many attempts, with keys if no secrets were refused."""
        self._keys = True
        self.end()

    def _count(self) -> None:
        judged = self._judged = self._passwords + (max(self._interactive, self._pam))
        offered_keys_in_vain = self._keys and self.ended and not self.logged_in
        self.failures = judged or int(self._named or offered_keys_in_vain)

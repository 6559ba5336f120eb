"""One ssh connection: how many failed logins all the lines about it stand for."""

_SAME_PORT_FOR = 600.0
"""Seconds after which a peer's port is taken for another connection: a client uses it again only much later."""


class Connection:
    """The lines that sshd writes about one connection say the same thing several times; it counts them once.

    - Each secret that sshd refused is a failure. A keyboard-interactive one may stand in two lines, PAM's and sshd's.
    - If no secret was refused, a connection that names an invalid or a forbidden user is one failure.
    - A connection that only offered keys is one failure once it has ended without a login.

    Attributes:
        port: The peer's port; None while no line has named it.
        pid: The process of sshd that serves it; None while no line has named it.
        logged_in: The connection logged in.
        ended: The connection ended before authentication.
        failures: The failed logins that this connection stands for.
        contacted: It was counted as a contact that named no user.
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
        """Tell whether a line with this port and process belongs to this connection."""
        if abs(at - self.at) > _SAME_PORT_FOR and pid != self.pid:
            return False
        if port is not None and self.port is not None:
            return port == self.port
        return pid == self.pid

    def join(self, port: int | None, pid: int | None, at: float) -> None:
        """Note a further line of this connection."""
        self.at = max(self.at, at)
        if self.port is None:
            self.port = port
        if self.pid is None:
            self.pid = pid

    @property
    def guessed(self) -> bool:
        """A secret or a user name was guessed; False where only keys were offered."""
        return self._named or self._judged > 0

    @property
    def named_valid_user_in_vain(self) -> bool:
        """It ended without a login, and is no failure of any other kind."""
        return self.ended and not self.logged_in and not self.failures

    @property
    def waits(self) -> bool:
        """Keys were refused, and it is open whether it logs in."""
        return self._keys and not self.ended and not self.logged_in

    def refuse(self, method: str, count: int, *, by_pam: bool) -> None:
        """Note a credential that sshd, or PAM for it, refused."""
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
        """Note that the user does not exist or may not log in."""
        self._named = True
        self._count()

    def end(self) -> None:
        """Note that it ended before authentication."""
        self.ended = True
        self._count()

    def log_in(self) -> None:
        """Note that it logged in."""
        self.logged_in = True
        self._count()

    def use_up_attempts(self) -> None:
        """Note that sshd ended it for too many attempts: if they were no secrets, they were keys."""
        self._keys = True
        self.end()

    def _count(self) -> None:
        judged = self._judged = self._passwords + (max(self._interactive, self._pam))
        offered_keys_in_vain = self._keys and self.ended and not self.logged_in
        self.failures = judged or int(self._named or offered_keys_in_vain)

"""The effective mode: the least of host, policy and maximum, and the trial that every change to protection begins."""

from agent.clock import Clock
from agent.logs import EventLog
from agent.manager_time import ManagerTime
from agent.storage.database import Database
from schemas.presence import Mode

_log = EventLog("mode")

TRIAL = 600.0
"""Seconds within which mode protection must be confirmed."""

MANAGER_AFTER = 60.0
"""Seconds of a trial after which reaching the manager confirms a mode that the policy has set."""

_HOST = "host"


class ModeControl:
    """Decides the mode that is in effect.

    Wanted is the policy's mode where it sets one, else the host's. Effective is the lesser of wanted and `max_mode`;
    learning while a trial has failed. A trial begins when protection could first block something: it ends with a
    confirmation, or after `trial` seconds in learning, and protection is not tried again at the same policy version.
    Once confirmed it is kept over restarts until the mode leaves protection. A restart of the guard does not lengthen a
    trial, and a restart of the host, which a locked-out operator may have forced, ends it.

    Args:
        database: The guard's database.
        clock: The host's clocks.
        manager_time: Shows when the manager was reached.
        host: The host's mode, from the start options.
        max_mode: The most that this host allows.
        trial: Seconds of a trial.
        boot: Names this boot: the monotonic clock of another one says nothing.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        manager_time: ManagerTime,
        *,
        host: Mode,
        max_mode: Mode = Mode.PROTECTION,
        trial: float = TRIAL,
        boot: str = "",
    ) -> None:
        self._database = database
        self._clock = clock
        self._manager_time = manager_time
        self._started_with = host
        self._max_mode = max_mode
        self._trial = trial
        self._boot = boot
        self.host = host
        """The host's mode: set by `panguard guard mode`, else by the start options."""

        self._confirmed = False
        self._reverted: str | None = None
        self._read()
        self._policy: Mode | None = None
        self._version = 0
        self._ends: float | None = None
        self._began = 0.0
        self._asked_at: float | None = None
        self.resumed = False
        """Whether the running trial began before the guard's last start."""
        self._resume()

    @property
    def wanted(self) -> Mode:
        """The mode that the policy or the host asks for, as far as the host allows."""
        asked = self._policy or self.host
        return asked if self._max_mode is Mode.PROTECTION else Mode.LEARNING

    @property
    def effective(self) -> Mode:
        """The mode in effect."""
        return Mode.LEARNING if self._reverted == self._occasion else self.wanted

    @property
    def seconds_left(self) -> float | None:
        """The seconds until an unconfirmed protection falls back to learning; None without a trial."""
        return None if self._ends is None else max(0.0, self._ends - self._clock.monotonic())

    @property
    def asks_manager(self) -> bool:
        """Whether a message of the manager is needed now to confirm a mode that the policy has set."""
        return self._asked_at is not None

    @property
    def due(self) -> float:
        """The time of the next change, on the monotonic clock."""
        if self._ends is None:
            return float("inf")
        ask = self._began + MANAGER_AFTER
        return ask if self._policy is not None and self._asked_at is None else self._ends

    @property
    def _occasion(self) -> str:
        """The policy version, or the host's setting, that has set the mode."""
        return _HOST if self._policy is None else str(self._version)

    def set_policy(self, mode: Mode | None, version: int) -> None:
        """Take the policy's mode, None where it sets none."""
        self._policy, self._version = mode, version

    def tick(self, *, enforces: bool, holds_managed: bool = False) -> bool:
        """Begin, confirm or end a trial; return whether one has begun.

        Args:
            enforces: The host can really block: nothing else can lock anybody out, so nothing else needs a trial.
            holds_managed: A measure of the manager is in force.
        """
        self._read()
        now = self._clock.monotonic()
        if self.wanted is not Mode.PROTECTION:
            if self._confirmed or self._reverted is not None or self._ends is not None:
                self._keep(confirmed=False, reverted=None)
            return False
        if self._confirmed or self.effective is not Mode.PROTECTION:
            self._ends = None
            return False
        if self._ends is None:
            if not enforces:
                return False
            self._began, self.resumed, self._asked_at = now, False, None
            self._keep(confirmed=False, reverted=None, ends=now + self._trial)
            _log.warning("trial_began", seconds=self._trial, confirm="panguard guard confirm, from a new session")
            return True
        if self._policy is not None:
            if self._asked_at is None and (holds_managed or now >= self._began + MANAGER_AFTER):
                known = self._manager_time.known
                self._asked_at = float("-inf") if known is None else known
            elif self._asked_at is not None and self._manager_time.latest > self._asked_at:
                self.confirm()
        if self._ends is not None and now >= self._ends:
            self._keep(confirmed=False, reverted=self._occasion)
            _log.error("mode_reverted", mode=Mode.LEARNING, reason="protection was not confirmed within its trial")
        return False

    def confirm(self) -> None:
        """End the trial: protection is kept."""
        if self._ends is not None:
            self._keep(confirmed=True, reverted=None)
            _log.info("mode_confirmed", mode=Mode.PROTECTION)

    def _read(self) -> None:
        """Read the kept state, which `panguard guard mode` changes from another process."""
        execute = self._database.connection.execute
        row = execute("SELECT confirmed, reverted FROM mode_trial").fetchone()
        self._confirmed, self._reverted = (False, None) if row is None else (bool(row[0]), row[1])
        row = execute("SELECT mode FROM host_mode").fetchone()
        self.host = self._started_with if row is None else Mode(row[0])

    def _resume(self) -> None:
        """Continue a trial that began before the guard's last start; one of another boot is over."""
        row = self._database.connection.execute("SELECT ends, boot FROM mode_trial").fetchone()
        if row is not None and row[0] is not None:
            self.resumed = True
            self._ends = float(row[0]) if row[1] == self._boot else self._clock.monotonic()
            self._began = self._ends - self._trial

    def _keep(self, *, confirmed: bool, reverted: str | None, ends: float | None = None) -> None:
        """Store the state of the trial, which ends without `ends`."""
        self._confirmed, self._reverted, self._ends = confirmed, reverted, ends
        if ends is None:
            self._asked_at = None
        with self._database.transaction() as connection:
            row = (confirmed, reverted, ends, self._boot)
            connection.execute("INSERT OR REPLACE INTO mode_trial VALUES (1, ?, ?, ?, ?)", row)


def set_host_mode(database: Database, mode: Mode) -> None:
    """Set the host's mode for the guard of a database; a protection that was reverted is tried again."""
    with database.transaction() as connection:
        connection.execute("INSERT OR REPLACE INTO host_mode VALUES (1, ?)", (str(mode),))
        connection.execute("UPDATE mode_trial SET reverted = NULL, ends = NULL")

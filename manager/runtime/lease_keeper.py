"""Keeps a manager's part in the lease of its database, in a thread of its own: reads, takes, renews, announces."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from manager.domain.lease import LeaseRow, LeaseTimes, LeaseWatch, Tenure
from manager.domain.rolling_upgrade import common_features
from manager.errors import StoreUnavailable
from manager.storage.postgresql.lease import LeaseTable, Member

log = structlog.get_logger(__name__)

LEADER, STANDBY, INGEST = "leader", "standby", "ingest"
_ROUND = 0.1
_ANNOUNCE_EVERY = 2.0
_LIVE = 10.0
"""Seconds without a word of a manager after which it counts as gone."""

_JOIN = 5.0


@dataclass(frozen=True, slots=True)
class Group:
    """The managers of the database, as last read.

    Attributes:
        row: The lease.
        since: When its holder took it, in seconds since 1970 on the database's clock.
        members: The managers that were heard of within ten seconds.
    """

    row: LeaseRow
    since: float
    members: tuple[Member, ...]

    @property
    def leader(self) -> Member | None:
        """The manager that holds the lease; None where nobody does, or it is not heard of."""
        return next((member for member in self.members if member.id == self.row.holder), None)

    def others(self, own_id: str) -> tuple[Member, ...]:
        """Return the managers other than this one."""
        return tuple(member for member in self.members if member.id != own_id)


class LeaseKeeper:
    """Takes the lease when it is free, and renews it until it is lost; then it ends.

    Args:
        table: the lease in the database; used by the keeper's thread, and by `close` after its end.
        member: what this manager says of itself, with its id.
        clock: seconds on a monotonic clock that counts suspended time.
        times: the times of the lease.
        is_candidate: whether it takes the lease; an ingest process never does.
        hold_off: seconds for which it leaves a free lease to others, after it has stepped down, until another had it.
    """

    def __init__(
        self,
        table: LeaseTable,
        member: Member,
        clock: Callable[[], float],
        *,
        times: LeaseTimes | None = None,
        is_candidate: bool = True,
        hold_off: float = 0.0,
    ) -> None:
        self._table = table
        self._member = member
        self._clock = clock
        self._times = times or LeaseTimes()
        self._watch = LeaseWatch(self._times)
        self._is_candidate = is_candidate
        self._hold_off_until = clock() + hold_off
        self._next_read = self._next_announcement = 0.0
        self._problem: str | None = None
        self._worked_at: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self.tenure: Tenure | None = None
        """The leadership, once the lease was taken; another process begins after its end."""
        self.group: Group | None = None
        """The managers as last read; None before the first reading."""
        self.outdated: str | None = None
        """Why this release does not work with the database's schema any more; None while it does."""
        self.changed = threading.Event()
        """Set at each change of `tenure` and `group`."""

    @property
    def own_id(self) -> str:
        """This manager's id."""
        return self._member.id

    @property
    def problem(self) -> str | None:
        """Why the database cannot be read just now; None while it can."""
        return self._problem

    @property
    def role(self) -> str:
        """The role that this manager states."""
        return self._member.role

    def features(self) -> tuple[str, ...]:
        """Return those of this manager's features that all managers of the database have, as last read.

        None before the first reading: a manager of an earlier release may live.
        """
        if self.group is None:
            return ()
        return common_features(self._member.features, (member.features for member in self.group.members))

    def leads(self) -> bool:
        """Return whether this manager may write and publish now; safe from any thread."""
        tenure = self.tenure
        return tenure is not None and tenure.leads(self._clock())

    def behind(self) -> float | None:
        """Return the seconds since the lease was last read or renewed; None before the first time."""
        return self._watch.behind(self._clock())

    def unchanged_for(self) -> float:
        """Return the seconds for which the lease was read and was the same; safe from any thread."""
        return self._watch.unchanged_for(self._clock())

    def leader(self) -> Member | None:
        """Return the manager that leads, as far as this one knows; None while none does."""
        group = self.group
        if group is None or self._watch.takeable(self._clock()) is not None:
            return None
        return group.leader

    def note_work(self) -> None:
        """Note a step of the leader's loop; from the first one on the lease is renewed only while there are more."""
        self._worked_at = self._clock()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread, release a lease that is held, and withdraw from the managers of the database; once."""
        if self._stop.is_set():
            return
        self._stop.set()
        if self._thread.ident is not None:  # a process whose start was refused never started it
            self._thread.join(_JOIN)
        if self._thread.is_alive():
            return  # the database does not answer: others take the lease when its time is over
        tenure = self.tenure
        try:
            if tenure is not None and tenure.ended is None:
                tenure.end("released")
                self._table.release(tenure.row)
            self._table.withdraw(self.own_id)
        except StoreUnavailable as error:
            log.warning("lease_not_released", reason=str(error))
        self._table.close()

    def _run(self) -> None:
        while not self._stop.wait(_ROUND):
            try:
                if self._round() and self._problem is not None:
                    log.info("lease_available")
                    self._problem = None
            except StoreUnavailable as error:
                self._note_failure(str(error))
            except Exception as error:
                log.exception("lease_failed")
                self._note_failure(str(error))

    def _note_failure(self, reason: str) -> None:
        if self._problem is None:
            log.warning("lease_unavailable", reason=reason)
        self._problem = reason
        now = self._clock()
        self._next_read = now + self._times.read_every
        if self.tenure is not None:
            self.tenure.failed(now)

    def _round(self) -> bool:
        """Do what is due; return whether the database answered, False if nothing is due."""
        tenure, now = self.tenure, self._clock()
        if tenure is not None:
            if not tenure.renewal_due(now):
                return False
            if self._worked_at is not None and now - self._worked_at > self._times.standstill:
                tenure.failed(now)
                log.error("leader_stands_still", seconds=round(now - self._worked_at))
                return False
            row = self._table.renew(tenure.row)
            if row is None:
                tenure.end("another manager took the lease, or the database has another history")
                log.warning("leadership_lost", epoch=tenure.epoch, reason=tenure.ended)
                self.changed.set()
                return True
            tenure.renewed(row, now)
            self._announce(LEADER)
            self._read()
            return True
        if now < self._next_read:
            return False
        self._next_read = now + self._times.read_every
        self._read()
        self._take()
        return True

    def _read(self) -> None:
        row, since = self._table.read()
        now = self._clock()
        self._watch.observe(row, now)
        if row.holder is not None:
            self._hold_off_until = now  # another has taken the lease meanwhile: it was left to others
        if self.tenure is None and now >= self._next_announcement:
            self._announce(STANDBY if self._is_candidate else INGEST)
        members = tuple(member for member in self._table.members() if abs(member.age) < _LIVE)
        self.group = Group(row, since, members)
        self._check_schema()
        self.changed.set()

    def _check_schema(self) -> None:
        """End the leadership where a newer release has removed what this one needs, after a minute without a word."""
        oldest, knows = self._table.oldest_migration(), self._member.migration
        if oldest <= knows or self.outdated is not None:
            return
        self.outdated = (
            f"a newer release has removed what this one needs of the database: its schema needs one that knows the"
            f" migration {oldest:04}, and this one knows {knows:04}: install that release"
        )
        log.error("schema_outgrown", needs=oldest, knows=knows)
        if self.tenure is not None:
            self.tenure.end(self.outdated)
            self.changed.set()

    def _announce(self, role: str) -> None:
        self._member = replace(self._member, role=role)
        self._table.announce(self._member)
        self._next_announcement = self._clock() + _ANNOUNCE_EVERY

    def _take(self) -> None:
        if self.outdated is not None:
            return
        now, last = self._clock(), self._watch.row
        if last is not None and last.holder == self.own_id:  # the lease was taken, and the answer was lost
            row = self._table.renew(last)
        else:
            seen = self._watch.takeable(now) if self._is_candidate and now >= self._hold_off_until else None
            row = None if seen is None else self._table.take(seen, self.own_id)
        if row is None:
            return
        self.tenure = Tenure(row, now, self._times)
        log.info("leadership_begins", epoch=row.epoch)
        self._announce(LEADER)
        self._read()
        self.changed.set()

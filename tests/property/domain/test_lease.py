"""The lease with several managers: pauses, delayed and lost answers, fail-overs that lose commits, clocks that step."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from manager.domain.lease import LeaseRow, LeaseTimes, LeaseWatch, Tenure
from tests.support.examples import examples

MANAGERS = 3
STEPS = st.sampled_from([0.1, 0.4, 0.5, 1.0, 1.6, 2.1, 4.4, 4.6, 6.1, 60.0])


@dataclass
class Transaction:
    """An open transaction of a leader: it has a share lock on the lease."""

    manager: "SimulatedManager"
    epoch: int


@dataclass
class SimulatedManager:
    """One manager: its life (each process has its own name), its view of the lease, and its clock."""

    name: str
    clock: float
    life: int = 0
    watch: LeaseWatch = field(default_factory=LeaseWatch)
    tenure: Tenure | None = None

    @property
    def holder(self) -> str:
        return f"{self.name}.{self.life}"

    def restart(self) -> None:
        self.life += 1
        self.watch, self.tenure = LeaseWatch(), None


@dataclass
class Sent:
    """A statement under way: the database executes it later, or never; its answer arrives later, or never."""

    manager: SimulatedManager
    kind: str
    sent_at: float
    life: int
    expected: LeaseRow | None
    executed: bool = False
    answer: LeaseRow | None = None


class LeaseMachine(RuleBasedStateMachine):
    """A database with one row, and managers that act by the rules of `manager.domain.lease` alone."""

    statements: Bundle[Sent] = Bundle("statements")

    @initialize()
    def begin(self) -> None:
        self.row = LeaseRow("1", 0, None, 0)
        self.past: list[LeaseRow] = [self.row]
        self.managers = [SimulatedManager(f"m{number}", 1000.0 * number) for number in range(MANAGERS)]
        self.transactions: list[Transaction] = []
        self.epochs_begun: list[tuple[str, int]] = []
        self.commits: list[tuple[str, int, str]] = []
        self.database_clock = 0.0

    @rule(seconds=STEPS)
    def time_passes(self, seconds: float) -> None:
        for manager in self.managers:
            manager.clock += seconds
        self.database_clock += seconds

    @rule(numbers=st.sets(st.integers(0, MANAGERS - 1)), turns=st.integers(1, 16))
    def live_on(self, numbers: set[int], turns: int) -> None:
        """These managers work undisturbed, each doing what its rules ask for every half second; others are paused."""
        for _ in range(turns):
            self.time_passes(0.5)
            for number in sorted(numbers):
                statement = self.send(number)
                self.execute(statement)
                self.answer(statement)
                self.at_most_one_leads()

    @rule(step=st.sampled_from([-3600.0, 3600.0]))
    def database_clock_steps(self, step: float) -> None:
        self.database_clock += step

    @rule(target=statements, number=st.integers(0, MANAGERS - 1))
    def send(self, number: int) -> Sent:
        """A manager sends what its rules ask for now: a renewal, a taking, or a reading."""
        manager = self.managers[number]
        tenure, now = manager.tenure, manager.clock
        if tenure is not None and tenure.ended is not None:
            manager.restart()
        elif tenure is not None:
            return Sent(manager, "renew", now, manager.life, tenure.row)
        free = manager.watch.takeable(now)
        kind = "read" if free is None else "take"
        return Sent(manager, kind, now, manager.life, free)

    @rule(statement=statements)
    def execute(self, statement: Sent) -> None:
        """The database executes a statement, at any time after it was sent."""
        if statement.executed:
            return
        statement.executed = True
        expected, holder = statement.expected, f"{statement.manager.name}.{statement.life}"
        if statement.kind == "take" and self.row == expected:
            self.transactions.clear()  # the taking waits for the share lock, and ends the sessions that keep it
            self._write(LeaseRow(self.row.timeline, self.row.epoch + 1, holder, self.row.beat + 1))
            self.epochs_begun.append((self.row.timeline, self.row.epoch))
        elif statement.kind == "renew" and expected is not None:
            same = self.row[:3] == (expected.timeline, expected.epoch, holder) and self.row.beat >= expected.beat
            if not same:
                return
            self._write(self.row._replace(beat=self.row.beat + 1))
        elif statement.kind == "take":
            return
        statement.answer = self.row

    @rule(statement=statements)
    def answer(self, statement: Sent) -> None:
        """An answer arrives; one that never does is a statement for which this rule is never run."""
        manager = statement.manager
        if not statement.executed or statement.life != manager.life:
            return
        row, tenure = statement.answer, manager.tenure
        if statement.kind == "read" and row is not None and tenure is None:
            manager.watch.observe(row, manager.clock)
        elif statement.kind == "take" and row is not None and tenure is None:
            manager.tenure = Tenure(row, statement.sent_at)
        elif statement.kind == "renew" and tenure is not None:
            if row is None:
                tenure.end("taken by another")
            else:
                tenure.renewed(row, statement.sent_at)

    @rule(number=st.integers(0, MANAGERS - 1))
    def restart(self, number: int) -> None:
        self.managers[number].restart()
        self.transactions = [each for each in self.transactions if each.manager is not self.managers[number]]

    @rule(number=st.integers(0, MANAGERS - 1))
    def begin_transaction(self, number: int) -> None:
        """A leader begins a transaction, as soon as it may; a pause of any length can follow."""
        manager = self.managers[number]
        tenure = manager.tenure
        if tenure is None or not tenure.leads(manager.clock):
            return
        if self.row[:3] == (tenure.row.timeline, tenure.epoch, manager.holder):
            self.transactions.append(Transaction(manager, tenure.epoch))

    @rule()
    def commit(self) -> None:
        if self.transactions:
            done = self.transactions.pop(0)
            self.commits.append((self.row.timeline, done.epoch, done.manager.holder))

    @rule(lost=st.integers(0, 3))
    def fail_over(self, lost: int) -> None:
        """A new primary that has not all commits of the former one, and whose clock is an hour off."""
        back = self.past[-1 - min(lost, len(self.past) - 1)]
        self.transactions.clear()
        self.database_clock += 3600.0
        self._write(back._replace(timeline=str(int(self.row.timeline) + 1)))

    @invariant()
    def at_most_one_leads(self) -> None:
        leading = [each for each in self.managers if each.tenure is not None and each.tenure.leads(each.clock)]
        assert len(leading) <= 1, [each.holder for each in leading]

    @invariant()
    def no_commit_of_an_older_epoch(self) -> None:
        for earlier, later in zip(self.commits, self.commits[1:], strict=False):
            assert earlier[0] != later[0] or earlier[1] <= later[1]
        holders: dict[tuple[str, int], str] = {}
        for timeline, epoch, holder in self.commits:
            assert holders.setdefault((timeline, epoch), holder) == holder

    def _write(self, row: LeaseRow) -> None:
        self.row = row
        self.past.append(row)


TestLeaseMachine = LeaseMachine.TestCase
TestLeaseMachine.settings = settings(max_examples=examples(150), stateful_step_count=60, deadline=None)


def test_the_lease_is_taken_within_its_time_whatever_the_clock_of_the_database_shows() -> None:
    """A manager that reads a row that does not change takes it after six seconds, and not before."""
    times, watch = LeaseTimes(), LeaseWatch()
    row, now, taken = LeaseRow("1", 7, "dead", 40), 100.0, None
    while taken is None:
        watch.observe(row, now)
        taken = watch.takeable(now)
        now += times.read_every
    assert taken == row
    assert now - times.read_every - 100.0 == times.free_after


def test_a_gap_of_the_readings_counts_anew() -> None:
    """A manager that could not read the row for a time takes nothing for what was unchanged before."""
    watch = LeaseWatch()
    row = LeaseRow("1", 7, "other", 40)
    watch.observe(row, 100.0)
    watch.observe(row, 110.0)
    assert watch.takeable(110.0) is None
    for half in range(1, 12):
        watch.observe(row, 110.0 + half / 2)
        assert watch.takeable(110.0 + half / 2) is None
    watch.observe(row, 116.0)
    assert watch.takeable(116.0) == row
    assert watch.takeable(118.5) is None


def test_a_released_lease_is_taken_at_once() -> None:
    """A row without a holder is free."""
    watch = LeaseWatch()
    watch.observe(LeaseRow("1", 7, None, 41), 100.0)
    assert watch.takeable(100.0) == LeaseRow("1", 7, None, 41)


def test_a_holder_leads_from_the_sending_of_its_renewals() -> None:
    """The answer's delay shortens the time for which a renewal is good."""
    tenure = Tenure(LeaseRow("1", 8, "me", 42), sent_at=100.0)
    assert tenure.leads(104.4)
    assert not tenure.leads(104.5)
    tenure.renewed(LeaseRow("1", 8, "me", 43), sent_at=102.0)
    assert tenure.leads(106.4)
    tenure.renewed(LeaseRow("1", 8, "me", 44), sent_at=101.0)
    assert tenure.leads(106.4)
    assert not tenure.leads(106.5)
    tenure.end("stepped down")
    assert not tenure.leads(102.0)

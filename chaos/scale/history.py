"""The history that the database itself writes down of its lease and of its leaders' commits, and the checks of it.

Triggers record each change of the lease and each change of the leader's progress, in the transaction that makes it.
The row of the lease orders its changes, and the leader's transactions lock its key. So the record is the serial
order, and a check of each step against the one before is enough for linearizability: no search is needed.
"""

import json
from dataclasses import dataclass, field

from manager.storage.postgresql.lease import session_name
from tests.support.postgresql import Postgresql

_RECORD = """
CREATE TABLE chaos_history (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text, epoch bigint, holder text, beat bigint,
    session text, value text, transaction bigint DEFAULT txid_current()
);
CREATE FUNCTION chaos_lease() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos_history (what, epoch, holder, beat) VALUES ('lease', NEW.epoch, NEW.holder, NEW.beat);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_lease AFTER UPDATE ON lease FOR EACH ROW EXECUTE FUNCTION chaos_lease();
CREATE FUNCTION chaos_progress() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos_history (what, epoch, holder, session, value)
        SELECT 'progress', epoch, holder, current_setting('application_name'), NEW.value FROM lease;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_progress AFTER INSERT OR UPDATE ON meta FOR EACH ROW
    WHEN (NEW.key = 'decided_sequences') EXECUTE FUNCTION chaos_progress();
INSERT INTO chaos_history (what, epoch, holder, beat) SELECT 'lease', epoch, holder, beat FROM lease;
CREATE TABLE chaos_incident (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, transaction bigint DEFAULT txid_current(),
    epoch bigint, incident_id text, value text, report_count bigint
);
CREATE FUNCTION chaos_incident() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos_incident (epoch, incident_id, value, report_count)
        SELECT epoch, NEW.id, NEW.value, NEW.report_count FROM lease;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_incident AFTER INSERT OR UPDATE ON incident FOR EACH ROW
    WHEN (NEW.kind = 'source_ip') EXECUTE FUNCTION chaos_incident();
"""
_STEPS = "SELECT what, epoch, holder, beat, session, value FROM chaos_history"
_ORDER = "ORDER BY number"
_HIGHEST = "SELECT coalesce(max(number), 0) FROM chaos_history"
_TWICE = """
SELECT kind, value, count(*) FROM incident WHERE merged_into IS NULL AND kind = 'source_ip'
GROUP BY organization_id, kind, value HAVING count(*) > 1
"""
_COUNTED = """
SELECT value, report_count, reports FROM incident
JOIN (SELECT source_ip, count(*) AS reports FROM threat GROUP BY 1) AS threats ON source_ip = value
WHERE kind = 'source_ip' AND merged_into IS NULL AND report_count <> reports
"""
_STORED = """
SELECT (SELECT count(*) FROM stored_id), (SELECT count(*) FROM threat),
    (SELECT count(DISTINCT (agent_number, threat_id)) FROM threat)
"""
_RESPONDED = """
SELECT incident_id, scope, target, kind, value, count(*) FROM emergency_entry
GROUP BY 1, 2, 3, 4, 5, organization_id HAVING count(*) > 1
"""


_EVIDENCE = {
    "incident": "SELECT * FROM incident WHERE value = %s",
    "threat": "SELECT sequence, agent_number, threat_id, event_time, received_at, time_known, ignored FROM threat"
    " WHERE source_ip = %s ORDER BY sequence",
    "counts": "SELECT * FROM chaos_incident WHERE value = %s ORDER BY number",
    "progress": "SELECT number, epoch, transaction, value FROM chaos_history WHERE transaction IN"
    " (SELECT transaction FROM chaos_incident WHERE value = %s) ORDER BY number",
}
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Step:
    """One recorded change, in the order of the record."""

    what: str
    epoch: int
    holder: str | None
    beat: int | None = None
    session: str | None = None
    value: str | None = None


@dataclass(slots=True)
class Checked:
    """The counts of a history, and what is wrong with it."""

    epochs: int = 0
    renewals: int = 0
    commits: int = 0
    responses: int = 0
    responses_doubled: int = 0
    wrong: list[str] = field(default_factory=list)


def check_steps(steps: list[Step]) -> Checked:
    """Check a history from its beginning."""
    checker = StepChecker()
    for step in steps:
        checker.follow(step)
    return checker.found


class StepChecker:
    """Checks that one row explains the lease's changes, and that each leader's commit is of the lease's holder.

    A change of the lease takes it (epoch and beat plus one, another holder), renews it (beat plus one), or releases
    it (beat plus one, no holder). What has been decided stays decided.
    """

    def __init__(self) -> None:
        self.found = Checked()
        self._lease: Step | None = None
        self._decided = Decided()

    def follow(self, step: Step) -> None:
        """Take the next step."""
        found, lease = self.found, self._lease
        if step.what == "progress":
            found.commits += 1
            if step.session != session_name(step.holder or ""):
                found.wrong.append(f"a commit by {step.session!r} in the epoch {step.epoch} of {step.holder!r}")
            if lease is not None and step.epoch < lease.epoch:
                found.wrong.append(f"a commit of the epoch {step.epoch} after {lease.epoch} was taken")
            found.wrong += self._decided.follow(step.value or "[0,[]]")
            return
        if lease is not None:
            if step.beat != (lease.beat or 0) + 1:
                found.wrong.append(f"the beat {step.beat} follows {lease.beat}")
            if step.epoch == lease.epoch and step.holder not in {lease.holder, None}:
                found.wrong.append(f"the epoch {step.epoch} has two holders")
            if step.epoch not in {lease.epoch, lease.epoch + 1}:
                found.wrong.append(f"the epoch {step.epoch} follows {lease.epoch}")
            found.epochs += step.epoch != lease.epoch
            found.renewals += step.epoch == lease.epoch
        self._lease = step


class Decided:
    """The sequences that are decided: all up to a mark, and ranges above it."""

    def __init__(self) -> None:
        self._mark = 0
        self._ranges: list[list[int]] = []

    def follow(self, text: str) -> list[str]:
        """Take the next value; return what was decided and is not any more."""
        mark, ranges = json.loads(text)
        wrong = [] if mark >= self._mark else [f"decided up to {mark} after {self._mark}"]
        for first, last in self._ranges:
            if not (last <= mark or any(low <= max(first, mark + 1) and last <= high for low, high in ranges)):
                wrong.append(f"the decided range {first} to {last} is not in {text}")
        self._mark, self._ranges = mark, ranges
        return wrong


class History:
    """The record in one database.

    Args:
        cluster: the server; it is asked without a proxy.
        name: the database.
    """

    def __init__(self, cluster: Postgresql, name: str) -> None:
        self._cluster = cluster
        self._name = name
        self._early = StepChecker()
        self._followed = self._highest = 0

    def begin(self) -> None:
        """Record from now on."""
        self._cluster.execute(_RECORD, self._name)

    def is_decided(self) -> bool:
        """Return whether the leader has decided on all stored reports."""
        ((mark,),) = self._cluster.execute("SELECT low_water_mark()", self._name)
        rows = self._cluster.execute("SELECT value FROM meta WHERE key = 'decided_sequences'", self._name)
        return bool(rows) and json.loads(rows[0][0]) == [mark, []]

    def undecided(self) -> int:
        """Return the number of stored reports that the leader has not decided on."""
        rows = self._cluster.execute("SELECT value FROM meta WHERE key = 'decided_sequences'", self._name)
        mark, ranges = json.loads(rows[0][0]) if rows else (0, [])
        decided = [range(1, mark + 1), *(range(first, last + 1) for first, last in ranges)]
        stored = self._cluster.execute("SELECT sequence FROM threat WHERE sequence > %s", self._name, (mark,))
        return sum(not any(sequence in each for each in decided) for (sequence,) in stored)

    def early(self) -> list[str]:
        """Return what is wrong with the steps since the last call, and with the incidents and responses so far.

        A transaction may commit after one with a higher number, so steps are taken up to the highest one of the last
        call. The check at the end takes all of them.
        """
        last, self._highest = self._highest, self._cluster.execute(_HIGHEST, self._name)[0][0]
        said = len(self._early.found.wrong)
        for row in self._cluster.execute(f"{_STEPS} WHERE number > %s AND number <= %s {_ORDER}", self._name,
                                         (self._followed, last)):  # fmt: skip
            self._early.follow(Step(*row))
        self._followed = last
        wrong = self._early.found.wrong[said:]
        for what, statement in (("incidents opened twice", _TWICE), ("responses decided twice", _RESPONDED)):
            rows = self._cluster.execute(statement, self._name)
            wrong += [f"{what}: {len(rows)}, {rows[:3]}"] if rows else []
        return wrong

    def evidence(self) -> list[dict[str, list[str]]]:
        """Return what the database has of some incidents that count another number of reports than is stored."""
        values = [row[0] for row in self._cluster.execute(_COUNTED, self._name)[:_EXAMPLES]]
        return [
            {
                what: [str(row) for row in self._cluster.execute(statement, self._name, (value,))]
                for what, statement in _EVIDENCE.items()
            }
            for value in values
        ]

    def check(self) -> Checked:
        """Check the history and the tables at the end of a run, when everything is decided."""
        found = check_steps([Step(*row) for row in self._cluster.execute(f"{_STEPS} {_ORDER}", self._name)])
        for what, statement in (
            ("incidents opened twice", _TWICE),
            ("incidents that count another number of reports than is stored", _COUNTED),
            ("responses decided twice", _RESPONDED),
        ):
            rows = self._cluster.execute(statement, self._name)
            if rows:
                found.wrong.append(f"{what}: {len(rows)}, {rows[:3]}")
            if statement is _RESPONDED:
                found.responses_doubled = len(rows)
        ((found.responses,),) = self._cluster.execute("SELECT count(*) FROM emergency_entry", self._name)
        ((ids, rows_stored, distinct),) = self._cluster.execute(_STORED, self._name)
        if not ids == rows_stored == distinct:
            found.wrong.append(f"{ids} ids are stored, {rows_stored} reports, {distinct} of them distinct")
        return found

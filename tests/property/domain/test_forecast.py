"""Property tests: the forecast of automatic blocking against a naive count of what followed each measure."""

from ipaddress import ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from manager.domain.protection.forecast import Allowance, Followups, HostLogin, Lift, forecast, totals
from manager.domain.protection.measures import MEASURES_KEPT_FOR, ReportedMeasure, ScopedAddress
from tests.support.examples import examples

NOW = 100 * 86_400.0
DAYS = st.sampled_from([0, 30, 31, 60, 69, 70, 99, 100, 101]).map(lambda days: days * 86_400.0)
HOSTS = st.sampled_from(
    [
        ScopedAddress("acme", "", "203.0.113.7"),
        ScopedAddress("acme", "", "203.0.113.7"),  # most of what follows is about the address of a measure
        ScopedAddress("acme", "", "2001:db8::1"),
        ScopedAddress("acme", "berlin", "10.0.0.5"),
        ScopedAddress("acme", "", "10.0.0.5"),
        ScopedAddress("other", "", "203.0.113.7"),
    ]
)
TARGETS = HOSTS | st.just(ScopedAddress("acme", "", "2001:db8::/64"))
AGENTS = st.integers(1, 3)

MEASURES = st.lists(
    st.builds(
        ReportedMeasure,
        TARGETS,
        AGENTS,
        DAYS,
        st.just("sshd-brute-force"),
        st.sampled_from(["block", "throttle"]),
        st.integers(1, 8),
        st.sampled_from(["taken", "would_be_taken"]),
        st.none() | st.integers(0, 2),
    ),
    max_size=8,
)
LOGINS = st.lists(st.builds(HostLogin, HOSTS, AGENTS, st.sampled_from(["bob", "eve"]), DAYS, st.booleans()), max_size=6)
LIFTS = st.lists(st.builds(Lift, TARGETS, DAYS, st.sampled_from(["undo", "lift"]), st.just("admin")), max_size=4)
ALLOWANCES = st.lists(
    st.builds(
        Allowance,
        st.sampled_from(["203.0.113.0/24", "203.0.113.7", "10.0.0.0/8", "2001:db8::1", "2001:db8::/32"]),
        st.just("global"),
        st.sampled_from([None, "acme"]),
        st.none() | st.frozensets(AGENTS),
        DAYS,
        DAYS | st.just(float("inf")),
    ),
    max_size=4,
)


def _within(value: str, wider: str) -> bool:
    """Return whether an address or prefix lies in another: whether both of its ends do."""
    inner, outer = ip_network(value), ip_network(wider)
    return inner[0] in outer and inner[-1] in outer


def _follows(later: float, earlier: float) -> bool:
    return earlier < later <= NOW and later - earlier <= MEASURES_KEPT_FOR


def _naive(
    measures: list[ReportedMeasure], logins: list[HostLogin], lifts: list[Lift], allowances: list[Allowance]
) -> dict[str, int]:
    """Count by comparing every measure of every address with everything that may follow it."""
    found = dict.fromkeys(totals({}), 0)
    for subject in {each.subject for each in measures}:
        blocks = sorted((m for m in measures if m.subject == subject and m.kind == "block"), key=lambda m: m.at)
        if not blocks:
            found["throttled"] += 1
            continue
        later = [
            login
            for login in logins
            if login.subject[:2] == subject[:2]
            and _within(login.subject.value, subject.value)
            and any(_follows(login.at, block.at) for block in blocks)
        ]
        genuine = any(not login.guessed for login in later)
        lifted = any(lift.subject == subject and any(_follows(lift.at, b.at) for b in blocks) for lift in lifts)
        allowed = any(
            _within(subject.value, each.value)
            and each.since <= NOW
            and each.organization_id in {None, subject.organization_id}
            and any(each.until > b.at and (each.agents is None or b.agent_number in each.agents) for b in blocks)
            for each in allowances
        )
        stated = [block.connections for block in blocks if block.connections is not None]
        found["addresses"] += 1
        found["taken"] += "taken" in {block.outcome for block in blocks}
        found["beforeSixthGuess"] += blocks[0].guesses < 6
        found["loggedIn"] += genuine
        found["guessed"] += bool(later) and not genuine
        found["lifted"] += lifted
        found["allowlisted"] += allowed
        found["connectionsCut"] += sum(stated) > 0
        found["connectionsUnknown"] += not stated
        found["friends"] += genuine or lifted or allowed
    return found


@settings(max_examples=examples(200))
@given(MEASURES, LOGINS, LIFTS, ALLOWANCES)
def test_the_counts_are_those_of_a_naive_judgement(
    measures: list[ReportedMeasure], logins: list[HostLogin], lifts: list[Lift], allowances: list[Allowance]
) -> None:
    """In any order of measures and of what follows them, the counts are those of comparing all pairs."""
    ordered = sorted(measures, key=lambda each: (each.subject, each.at))
    counted = forecast(ordered, Followups(logins, lifts, allowances, NOW))
    assert totals(counted.counts) == _naive(ordered, logins, lifts, allowances)


def _at(login: HostLogin) -> float:
    return login.at


@given(MEASURES, LOGINS, LIFTS)
def test_only_the_newest_login_of_each_user_is_needed(
    measures: list[ReportedMeasure], logins: list[HostLogin], lifts: list[Lift]
) -> None:
    """While no measure is older than 30 days, the newest logins of an agent, address and user give the same counts.

    These are the newest one that looks guessed, and the newest other one.
    """
    recent = [each for each in measures if NOW - each.at <= MEASURES_KEPT_FOR]
    ordered = sorted(recent, key=lambda each: (each.subject, each.at))
    past = [each for each in logins if each.at <= NOW]
    newest = {(each.subject, each.agent_number, each.user, each.guessed): each for each in sorted(past, key=_at)}
    all_counts = forecast(ordered, Followups(past, lifts, (), NOW)).counts
    assert forecast(ordered, Followups(newest.values(), lifts, (), NOW)).counts == all_counts

"""Every kind of tampering with every kind of message: which test shows what comes of it, or why there is none."""

from dataclasses import dataclass

from schemas import topics
from schemas.topics import Topic

TAMPERINGS = ("inject", "replay", "reorder", "swap", "truncate", "withhold")


@dataclass(frozen=True)
class Shown:
    """The tests that show it."""

    tests: tuple[str, ...]


@dataclass(frozen=True)
class Senseless:
    """The reason for which a cell has no test."""

    reason: str


def shown(*tests: str) -> Shown:
    """Name tests as ``module::function``."""
    return Shown(tests)


_TO_MANAGER = "test_offers::test_the_manager_stores_nothing_false"
_TO_GUARD = "test_offers::test_a_guard_obeys_nothing_false"
_KEYS = "test_registering::test_no_keys_but_the_tokens_are_believed"
_REPLY = "test_registering::test_no_reply_but_its_own_names_a_guard"
_NO_RECEIPT = "test_offers::test_no_receipt_but_its_own_makes_a_guard_drop_a_report"
_HELD_BACK = "test_withheld::test_withheld_reports_and_receipts_are_noticed_on_both_sides"
_NO_ANSWER = "test_registering::test_a_withheld_registration_is_noticed"
_BLOCKLIST = "test_withheld::test_a_withheld_blocklist_is_drift_and_the_snapshot_comes_again"
_IN_REVERSE = "test_out_of_order::test_blocklist_changes_in_reverse_wait_for_each_other"
_FOR_PEOPLE = Senseless("nothing is decided by it: whatever it says, and whether it comes, is for people who watch")


def _for_people() -> dict[str, Shown | Senseless]:
    said = shown("test_out_of_order::test_what_is_said_to_people_decides_nothing")
    return {**dict.fromkeys(TAMPERINGS, _FOR_PEOPLE), "inject": said}


MATRIX: dict[Topic, dict[str, Shown | Senseless]] = {
    topics.MANAGER_PRESENCE: _for_people(),
    topics.MANAGER_KEYS: {
        "inject": shown(_KEYS),
        "replay": shown("test_registering::test_the_keys_again_change_nothing"),
        "reorder": shown("test_registering::test_the_keys_of_before_a_rotation_lead_no_guard_back"),
        "swap": shown(_KEYS),
        "truncate": shown(_KEYS),
        "withhold": shown("test_registering::test_withheld_keys_are_noticed"),
    },
    topics.REGISTRATION: {
        "inject": shown(_TO_MANAGER, "test_registering::test_a_registration_that_is_cut_short_turns_no_guard_away"),
        "replay": shown(
            _TO_MANAGER,
            "test_registering::test_the_newest_registration_gets_the_same_reply_again",
            "test_registering::test_a_removed_agent_is_not_brought_back",
        ),
        "reorder": shown(_TO_MANAGER),
        "swap": shown(_TO_MANAGER),
        "truncate": shown(_TO_MANAGER, "test_registering::test_a_registration_that_is_cut_short_turns_no_guard_away"),
        "withhold": shown(_NO_ANSWER),
    },
    topics.REGISTRATION_REPLY: {
        "inject": shown(_REPLY),
        "replay": shown(_REPLY),
        "reorder": Senseless("each registration has a topic of its own, and on it one reply"),
        "swap": shown(_REPLY),
        "truncate": shown(_REPLY),
        "withhold": shown(_NO_ANSWER),
    },
    topics.PRESENCE: {
        "inject": shown(
            _TO_MANAGER,
            _TO_GUARD,
            "test_out_of_order::test_a_will_before_its_time_is_outlived",
            "test_out_of_order::test_whom_a_broker_calls_lost_is_stale_until_its_next_session",
        ),
        "replay": shown(_TO_MANAGER, _TO_GUARD),
        "reorder": shown(_TO_MANAGER, _TO_GUARD, "test_out_of_order::test_births_in_reverse_leave_the_newest_session"),
        "swap": shown(_TO_MANAGER, _TO_GUARD),
        "truncate": shown(_TO_MANAGER, _TO_GUARD),
        "withhold": shown(
            "test_withheld::test_a_withheld_birth_is_in_the_first_heartbeat",
            "test_withheld::test_a_withheld_sign_off_is_noticed_as_silence",
            "test_withheld::test_a_withheld_will_is_noticed_as_silence",
        ),
    },
    topics.HEARTBEAT: {
        "inject": shown(_TO_MANAGER),
        "replay": shown(
            _TO_MANAGER,
            "test_withheld::test_withheld_heartbeats_make_an_agent_stale_and_no_old_one_keeps_it_alive",
        ),
        "reorder": shown(_TO_MANAGER, "test_out_of_order::test_heartbeats_in_reverse_say_what_the_newest_says"),
        "swap": shown(_TO_MANAGER),
        "truncate": shown(_TO_MANAGER),
        "withhold": shown(
            "test_withheld::test_withheld_heartbeats_make_an_agent_stale_and_no_old_one_keeps_it_alive",
            "test_withheld::test_a_manager_at_whose_broker_all_is_withheld_says_who_is_silent",
        ),
    },
    topics.THREATS: {
        "inject": shown(_TO_MANAGER),
        "replay": shown(_TO_MANAGER),
        "reorder": shown(
            _TO_MANAGER, "test_out_of_order::test_threats_in_reverse_are_stored_once_each_at_their_true_times"
        ),
        "swap": shown(_TO_MANAGER),
        "truncate": shown(_TO_MANAGER),
        "withhold": shown(_HELD_BACK),
    },
    topics.RECEIPTS: {
        "inject": shown(_TO_GUARD, _NO_RECEIPT),
        "replay": shown(_TO_GUARD, _NO_RECEIPT),
        "reorder": shown(_TO_GUARD, _NO_RECEIPT, "test_out_of_order::test_receipts_in_reverse_settle_what_each_names"),
        "swap": shown(_TO_GUARD, _NO_RECEIPT),
        "truncate": shown(_TO_GUARD, _NO_RECEIPT),
        "withhold": shown(_HELD_BACK),
    },
    topics.POLICY: {
        "inject": shown(_TO_GUARD),
        "replay": shown(_TO_GUARD),
        "reorder": shown(_TO_GUARD, "test_out_of_order::test_policies_in_reverse_leave_the_newest_in_force"),
        "swap": shown(_TO_GUARD),
        "truncate": shown(_TO_GUARD),
        "withhold": shown(
            "test_withheld::test_a_withheld_policy_is_drift_and_comes_again",
            "test_withheld::test_a_withheld_first_policy_comes_again",
        ),
    },
    topics.POLICY_APPLIED: {
        "inject": shown(_TO_MANAGER),
        "replay": shown(_TO_MANAGER),
        "reorder": shown(_TO_MANAGER),
        "swap": shown(_TO_MANAGER),
        "truncate": shown(_TO_MANAGER),
        "withhold": shown("test_withheld::test_a_withheld_word_on_a_policy_is_made_up_for_by_heartbeats"),
    },
    topics.BLOCKLIST: {
        "inject": shown(_TO_GUARD),
        "replay": shown(_TO_GUARD),
        "reorder": shown(_TO_GUARD, _IN_REVERSE),
        "swap": shown(_TO_GUARD),
        "truncate": shown(_TO_GUARD),
        "withhold": shown(_BLOCKLIST),
    },
    topics.BLOCKLIST_CHANGES: {
        "inject": shown(_TO_GUARD),
        "replay": shown(_TO_GUARD),
        "reorder": shown(_TO_GUARD, _IN_REVERSE),
        "swap": shown(_TO_GUARD),
        "truncate": shown(_TO_GUARD),
        "withhold": shown(_BLOCKLIST),
    },
    topics.FLEET: _for_people(),
}

"""The lifecycle page's figures are what both sides do unless they are told otherwise."""

from agent.settings import GuardSettings
from manager.settings import Settings


def test_the_defaults_are_the_documented_ones() -> None:
    """A heartbeat each 30 s, stale after 90 s, looked for each 30 s; a poll each 5 minutes; 60 requests a minute."""
    guard = {name: field.default for name, field in GuardSettings.model_fields.items()}
    manager = {name: field.default for name, field in Settings.model_fields.items()}
    assert (guard["heartbeat_interval"], guard["policy_poll_interval"]) == (30, 300)
    assert (manager["heartbeat_interval"], manager["policy_poll_interval"]) == (30, 300)
    assert (manager["stale_after"], manager["sweep_interval"], manager["rate_limit"]) == (90, 30, 60)

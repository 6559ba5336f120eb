"""Plans that cannot be carried out are refused in one sentence, before anything is sent."""

from typing import Any

import pytest

from simulate.errors import PlanError
from tests.unit.simulate.plans import plan


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"agents": 0}, "--agents is 0: give 1 to 100,000"),
        ({"threats": -1}, "give 0 or more"),
        ({"rate": 0.0}, "above 0"),
        ({"rate": float("nan")}, "above 0"),
        ({"shared_attackers": 1.5}, "--shared-attackers is 1.5: give a share from 0 to 1"),
        ({"unvouched": -0.1}, "--unvouched is -0.1: give a share from 0 to 1"),
        ({"connections": 3}, "--connections is for HTTP"),
        ({"manager": "http://127.0.0.1:1", "connections": 0}, "give 1 or more"),
        ({"admin": "mqtt://127.0.0.1:1883"}, "is no HTTP address"),
        ({"manager": "mqtt://broker.example:1883"}, "plain text: write mqtts://, or say --insecure"),
        ({"admin": "http://192.0.2.1:8443"}, "plain text: write https://, or say --insecure"),
        ({"manager": "ftp://127.0.0.1"}, "is no address of a broker or a manager"),
        ({"manager": "mqtt://user:pw-7@127.0.0.1"}, "an address holds no password"),
        ({"manager": "http://127.0.0.1:1/path"}, "has more than a host and a port"),
        ({"manager": "mqtt://127.0.0.1:port"}, "is no address"),
        ({"enroll_token": "pg1.x"}, "this is no enrollment token"),
    ],
)
def test_a_bad_plan_is_refused(members: dict[str, Any], sentence: str) -> None:
    """The sentence names the option and what to give; a password is never repeated."""
    with pytest.raises(PlanError, match=sentence) as refused:
        plan(**members)
    assert "pw-7" not in str(refused.value)


def test_a_plan_does_not_show_its_tokens() -> None:
    """Neither token stands in the text of a plan."""
    one = plan()
    assert "admin-secret" not in repr(one)
    assert one.enroll_token not in repr(one)


def test_plain_text_leaves_the_machine_only_on_request() -> None:
    """TLS needs no consent, plain text does."""
    assert plan(manager="mqtts://broker.example", admin="https://192.0.2.1").door.port == 8883
    assert plan(manager="mqtt://broker.example", insecure=True).door.port == 1883

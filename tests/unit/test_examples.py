"""The number of examples that a run draws."""

from types import SimpleNamespace

import pytest
from hypothesis import settings

from tests.support import examples


@pytest.mark.parametrize(("ci", "long", "drawn"), [("true", False, 30), ("", True, 30), ("", False, 10)])
def test_all_are_drawn_in_ci_and_with_the_option(
    monkeypatch: pytest.MonkeyPatch, *, ci: str, long: bool, drawn: int
) -> None:
    """Elsewhere a third of them, and never none."""
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(examples, "_everything", [False])
    profile = settings.get_current_profile_name()
    usual = {name: settings.get_profile(name) for name in ("default", "ci")}
    try:
        examples.pytest_configure(SimpleNamespace(getoption=lambda _name: long))  # type: ignore[arg-type]
        assert settings().max_examples == (25 if drawn == 30 else 8)
        assert settings().derandomize is bool(ci)
    finally:
        for name, kept in usual.items():
            settings.register_profile(name, kept)
        settings.load_profile(profile)
    assert examples.examples(30) == drawn
    assert examples.examples(1) == 1

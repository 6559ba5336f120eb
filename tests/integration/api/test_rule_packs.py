"""Sigma and YARA in a policy: what does not parse is refused with its place, what parses is taken with a warning."""

import json
import os
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.integration.api.terminal import Terminal
from tests.support.waiting import eventually

SIGMA = "title: t\nlogsource: {product: linux}\ndetection:\n  a: {x: 1}\n  condition: a\n"
YARA = 'import "pe"\nrule a { strings: $x = "x" condition: $x and pe.is_pe }'


@pytest.mark.parametrize(
    ("detection", "errors"),
    [
        ({"sigma": [SIGMA, "title: ["]}, ["detection.sigma.1: line 2, column 1"]),
        ({"sigma": [SIGMA[:-2] + "b"]}, ["detection.sigma.0: detection.condition: column 1: `b` is no search"]),
        ({"yara": [YARA, "rule a { condition: true"]}, ["detection.yara.1: line 1, column 25: syntax error"]),
        ({"yara": ["rule a {\n  condition: $b }"]}, ["detection.yara.0: line 2, column 14: unknown pattern"]),
        ({"yara": ['include "/etc/passwd"']}, ["detection.yara.0: line 1, column 1: include statements not allowed"]),
        (
            {"sigma": ["x"], "yara": ["x"], "sigmaa": []},
            ["detection.sigmaa: no such field", "detection.sigma.0: ", "detection.yara.0: "],
        ),
        ({"sigma": [5, "x"]}, ["detection.sigma.0: ", "detection.sigma.1: a rule is a mapping"]),
    ],
)  # fmt: skip
def test_rules_that_do_not_parse_are_refused_with_their_place(
    admin: httpx2.Client, detection: dict[str, object], errors: list[str]
) -> None:
    """By PUT, by its dry run and by a comparison, with all other errors; nothing is set."""
    document = {"detection": detection}
    for answer in (
        admin.put("/api/policies/global", json=document),
        admin.put("/api/policies/global", json=document, params={"dry_run": "true"}),
    ):
        assert answer.status_code == 400
        assert [text in answer.json()["error"] for text in errors] == [True] * len(errors), answer.json()
    compared = admin.post("/api/policies/diff", json={"scope": "global", "document": document})
    assert compared.status_code == 400
    assert "document.detection." in compared.json()["error"]
    assert admin.get("/api/policies/global").json()["data"] == {}


def test_rules_that_parse_are_taken_with_a_warning(admin: httpx2.Client, terminal: Terminal, tmp_path: Path) -> None:
    """No guard runs them yet, and the answer says so."""
    file = tmp_path / "policy.json"
    rules = {"sigma": [SIGMA], "yara": ["rule a { condition: true }"]}
    file.write_text(json.dumps({"detection": rules}))
    done = terminal.run("policies", "set", "--global", "--file", str(file))
    assert done.exit_code == 0, done.output
    for name in ("sigma", "yara"):
        assert f"detection.{name}: the rules are kept and sent, but no guard runs them yet" in done.output
    assert admin.get("/api/policies/global").json()["data"]["detection"]["sigma"] == [SIGMA]


def test_the_check_costs_the_manager_no_memory(admin: httpx2.Client) -> None:
    """Rules are parsed in a process that ends: the compiler is not loaded here, and no process stays."""
    document = {"detection": {"yara": [f'rule r{number} {{ condition: "x" == "x" }}' for number in range(200)]}}
    before = set(psutil.Process().children())
    assert admin.put("/api/policies/global", json=document, params={"dry_run": "true"}).status_code == 200
    assert "yara_x" not in Path("/proc/self/maps").read_text()
    eventually(lambda: set(psutil.Process().children()) <= before, what="no process that was not there before")


def test_a_check_that_does_not_end_is_ended(admin: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that does not end is ended, and the answer says what to do; the next one is checked again."""
    monkeypatch.setattr("manager.api.rule_check._LONGEST", 0.001)
    answer = admin.put("/api/policies/global", json={"detection": {"sigma": [SIGMA]}})
    assert (answer.status_code, answer.json()["error"][:9]) == (400, "detection")
    assert "fewer or simpler" in answer.json()["error"]
    monkeypatch.undo()
    assert admin.put("/api/policies/global", json={"detection": {"sigma": [SIGMA]}}).status_code == 200


def test_the_check_is_given_no_secret(admin: httpx2.Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment of the process holds none of the manager's variables."""
    spy = tmp_path / "python"
    spy.write_text(f"#!/bin/sh\nenv > {tmp_path}/seen\ncat >/dev/null\necho '[]'\n")
    spy.chmod(0o755)
    monkeypatch.setattr("manager.api.rule_check.sys.executable", str(spy))
    monkeypatch.setitem(os.environ, "MANAGER_AUTH_TOKEN", "hidden-from-the-check")
    assert admin.put("/api/policies/global", json={"detection": {"sigma": [SIGMA]}}).status_code == 200
    assert "hidden-from-the-check" not in (tmp_path / "seen").read_text()

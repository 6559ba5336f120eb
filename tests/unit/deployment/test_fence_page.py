"""docs/fence.md: its sample configuration is one, and its command finds the key."""

import re
import subprocess
from pathlib import Path

from fence import config
from schemas.keys import EnrollmentToken, ManagerKeyring

PAGE = (Path(__file__).parents[3] / "docs" / "fence.md").read_text()


def _sample(language: str) -> str:
    """Return the last block of a language on the page."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[-1]


def test_the_sample_configuration_is_taken() -> None:
    """But for the user, which a host has only once the guard is installed."""
    document = config.tomllib.loads(_sample("toml"))
    assert document.pop("guard_user") == "panguard"
    built = config.build(document)
    assert (len(built.sign_keys), built.protected_ports, built.ssh_ports, len(built.never)) == (1, (22, 443), (22,), 2)


def test_every_setting_is_in_the_table() -> None:
    """And no other."""
    table = PAGE.partition("| setting |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == config._KNOWN


def test_the_key_is_where_the_page_says(tmp_path: Path) -> None:
    """With and without the fingerprint of the manager's own certificate authority at the end of the token."""
    key = ManagerKeyring(bytes(32)).sign_public
    for fingerprint in (None, "a" * 64):
        (tmp_path / "enroll.token").write_text(f"{EnrollmentToken.new(key, fingerprint)}\n")
        done = subprocess.run(  # noqa: S603 -- our own page
            ["/bin/sh", "-c", _sample("sh")], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == key

"""The console's files: kept by browsers under the path of their release, and loaded at once."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import httpx2
import pytest

from tests.integration.api.served import LOOPBACK, Served

FOLDER = Path(__file__).parents[3] / "manager" / "console"


@pytest.fixture
def anybody(tmp_path: Path) -> Iterator[httpx2.Client]:
    with Served(tmp_path, client_addresses=LOOPBACK) as served, served.client(None) as client:
        yield client


def test_files_under_the_release_are_kept_and_the_page_is_asked_for_again(anybody: httpx2.Client) -> None:
    """A browser asks for no file twice, and after an upgrade for each, because the page names another path."""
    page = anybody.get("/")
    assert page.headers["cache-control"] == "no-cache"
    named = re.findall(r'(?:href|src)="(/console/[^"]+)"', page.text)
    assert len(named) > 5
    for path in named:
        answer = anybody.get(path)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.content == (FOLDER / path.split("/", 3)[3]).read_bytes()
    release = named[0].split("/")[2]
    assert anybody.get(f"/console/{release}/../errors.py").status_code == 404
    assert anybody.get("/console/v-0000000000000000/app.js").status_code == 404
    assert anybody.get("/console/app.js").headers["cache-control"] == "no-cache"


def test_the_page_names_each_module_of_the_first_screen(anybody: httpx2.Client) -> None:
    """So a browser loads them all at once, instead of one after the other as each names the next."""
    named = set(re.findall(r'modulepreload" href="/console/[^/]+/([^"]+)"', anybody.get("/").text))
    needed, left = set(), ["app.js"]
    while left:
        module = left.pop()
        for found in re.findall(r'^import .* from "([^"]+)";$', (FOLDER / module).read_text(), re.MULTILINE):
            path = (FOLDER / PurePosixPath(module).parent / found).resolve().relative_to(FOLDER).as_posix()
            if path not in needed:
                needed.add(path)
                left.append(path)
    assert named == needed

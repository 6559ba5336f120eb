"""The web console: its files, to whoever asks; what they show comes from the API, which asks for a token."""

import hashlib
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

from fastapi import APIRouter, Request, Response

from manager.api.authorization import OPEN
from manager.errors import NotFound

router = APIRouter()

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Content-Security-Policy of the page: nothing from another host, no inline script or style, no markup from strings."""


class _File(NamedTuple):
    content: bytes
    media_type: str
    etag: str


def _read_files(folder: Traversable, before: str = "") -> dict[str, _File]:
    found: dict[str, _File] = {}
    for each in folder.iterdir():
        if each.is_dir():
            found |= _read_files(each, f"{before}{each.name}/")
            continue
        media_type = _TYPES.get(each.name[each.name.rfind(".") :])
        if media_type is not None:
            content = each.read_bytes()
            found[before + each.name] = _File(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
    return found


_FILES = _read_files(files("manager.console"))


@router.get("/", include_in_schema=False, dependencies=[OPEN])
async def page(request: Request) -> Response:
    """The console's page."""
    return _answer(request, "index.html")


@router.get("/console/{path:path}", include_in_schema=False, dependencies=[OPEN])
async def file(path: str, request: Request) -> Response:
    """A style sheet or module of the page."""
    return _answer(request, path)


def _answer(request: Request, path: str) -> Response:
    found = _FILES.get(path)
    if found is None:
        raise NotFound("Not found")
    headers = {
        "ETag": found.etag,
        "Cache-Control": "no-cache",
        "Content-Security-Policy": _POLICY,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
    }
    if request.headers.get("if-none-match") == found.etag:
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)

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
_RELEASE = "v-" + hashlib.sha256("".join(_FILES[each].etag for each in sorted(_FILES)).encode()).hexdigest()[:16]
"""Path of this release's files: its content never changes, so a browser that has it asks for none of them again."""

_FOREVER = "public, max-age=31536000, immutable"


def _page() -> _File:
    """Return the page, with the paths of this release's files in it."""
    content = _FILES["index.html"].content.replace(b'"/console/', f'"/console/{_RELEASE}/'.encode())
    return _File(content, _TYPES[".html"], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


_PAGE = _page()


@router.get("/", include_in_schema=False, dependencies=[OPEN])
async def page(request: Request) -> Response:
    """The console's page."""
    return _answer(request, _PAGE, "no-cache")


@router.get("/console/{path:path}", include_in_schema=False, dependencies=[OPEN])
async def file(path: str, request: Request) -> Response:
    """A style sheet or module of the page: kept by browsers by this release's path, not by its plain one."""
    release, _, name = path.partition("/")
    found = _FILES.get(name if release == _RELEASE else path)
    if found is None:
        raise NotFound("Not found")
    return _answer(request, found, _FOREVER if release == _RELEASE else "no-cache")


def _answer(request: Request, found: _File, keep: str) -> Response:
    headers = {
        "ETag": found.etag,
        "Cache-Control": keep,
        "Content-Security-Policy": _POLICY,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
    }
    if request.headers.get("if-none-match") == found.etag:
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)

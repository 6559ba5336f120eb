"""Which methods a path knows, by the API's own document: the `Allow` of a 405."""

import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

_METHODS = frozenset({"get", "put", "post", "delete", "patch"})
_UNDESCRIBED = {
    "/docs": {"GET"},
    "/openapi.json": {"GET"},
    "/health": {"HEAD"},
    "/health/live": {"HEAD"},
    "/health/ready": {"HEAD"},
}
"""What is served beside what the document describes."""


def allowed_methods(app: FastAPI, path: str) -> list[str]:
    """Return the methods of the route that `path` names, or else of those that it matches."""
    described = app.openapi()["paths"]
    found = (
        [described[path]] if path in described else [each for name, each in described.items() if _matches(name, path)]
    )
    return sorted(set(_UNDESCRIBED.get(path, ())).union(*map(_methods, found)))


def _matches(template: str, path: str) -> bool:
    pieces = re.split(r"\{[^}]+\}", template)
    return re.fullmatch("[^/]+".join(re.escape(piece) for piece in pieces), path) is not None


def _methods(operations: Mapping[str, Any]) -> set[str]:
    return {method.upper() for method in operations if method in _METHODS}

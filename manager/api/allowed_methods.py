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
    """Return the methods of every route that matches `path`."""
    allowed = set(_UNDESCRIBED.get(path, ()))
    for template, operations in app.openapi()["paths"].items():
        if _matches(template, path):
            allowed |= _methods(operations)
    return sorted(allowed)


def _matches(template: str, path: str) -> bool:
    pieces = re.split(r"\{[^}]+\}", template)
    return re.fullmatch("[^/]+".join(re.escape(piece) for piece in pieces), path) is not None


def _methods(operations: Mapping[str, Any]) -> set[str]:
    return {method.upper() for method in operations if method in _METHODS}

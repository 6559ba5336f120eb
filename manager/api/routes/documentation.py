"""HTML page of the OpenAPI document; it loads nothing from another host."""

import hashlib
from base64 import b64encode
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from manager.api.authorization import OPEN

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code{font-family:ui-monospace,monospace}h2{margin-top:2rem;border-bottom:1px solid #ccc}"
    "table{border-collapse:collapse}td,th{text-align:left;padding:.1rem 1rem .1rem 0;vertical-align:top}"
)
STYLE_SOURCE = f"'sha256-{b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
"""Content-Security-Policy source of the page's one style sheet."""


def render(document: Mapping[str, Any]) -> str:
    """Return the page of an OpenAPI document."""
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    models: Mapping[str, Any] = document.get("components", {}).get("schemas", {})
    objects = "".join(_object(name, model, models) for name, model in models.items() if "properties" in model)
    sections = "".join(
        _operation(method, path, operation, models)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>{escape(document['info'].get('description', ''))}</p>"
        f'<p>For programs: <a href="/openapi.json"><code>/openapi.json</code></a></p>{sections}{objects}</html>'
    )


def _operation(method: str, path: str, operation: Mapping[str, Any], models: Mapping[str, Any]) -> str:
    rows = "".join(
        [*_access(operation), *_parameters(operation, models), *_body(operation, models), *_answers(operation)]
    )
    about = escape(operation.get("description", ""))
    return f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{about}</p><table>{rows}</table>"


def _object(name: str, model: Mapping[str, Any], models: Mapping[str, Any]) -> str:
    rows = "".join(_members(model, "", models))
    return f"<h3><code>{escape(name)}</code></h3><p>{escape(model.get('description', ''))}</p><table>{rows}</table>"


def _access(operation: Mapping[str, Any]) -> Iterator[str]:
    """Yield the row with the role of the access token that an operation needs."""
    role, agent = operation.get("x-role"), operation.get("x-agent")
    if role == "none":
        yield _row("role", "none: no token is needed")
    elif role is not None:
        scope = "of all organizations" if operation.get("x-scope") == "fleet" else "of the organizations concerned"
        agents = {"own": "; the agent in the path", "any": "; any agent"}.get(str(agent), "")
        yield _row("role", f"{role}, with a token {scope}{agents}")


def _parameters(operation: Mapping[str, Any], models: Mapping[str, Any]) -> Iterator[str]:
    for parameter in operation.get("parameters", ()):
        about = parameter.get("description", "")
        yield _row(
            f"{parameter['in']} {parameter['name']}", f"{_kind(parameter['schema'], models)}; {about}".strip("; ")
        )


def _body(operation: Mapping[str, Any], models: Mapping[str, Any]) -> Iterator[str]:
    for content in operation.get("requestBody", {}).get("content", {}).values():
        model = models.get(_name(content["schema"]), {})
        yield _row("body", model.get("description", ""))
        yield from _members(model, "body ", models)


def _members(model: Mapping[str, Any], before: str, models: Mapping[str, Any]) -> Iterator[str]:
    for name, member in model.get("properties", {}).items():
        required = "required" if name in model.get("required", ()) else ""
        about = "; ".join(filter(None, (_kind(member, models), required, member.get("description", ""))))
        yield _row(f"{before}{name}", about)


def _answers(operation: Mapping[str, Any]) -> Iterator[str]:
    for status, answer in operation["responses"].items():
        yield _row(status, f"{answer['description']} {_answer_members(answer)}".strip())


def _answer_members(answer: Mapping[str, Any]) -> str:
    """Return the members of an answer's data, and those beside it."""
    contents: dict[str, Any] = answer.get("content", {})
    content: dict[str, Any] = contents.get("application/json") or next(iter(contents.values()), {})
    schema = content.get("schema", {})
    beside = dict(schema.get("properties", {}))
    inside = beside.pop("data", {}).get("properties", {})
    parts = [f"data: {', '.join(inside)}."] if inside else []
    beside.pop("ok", None)
    beside.pop("error", None)
    return " ".join(parts + ([f"Beside data: {', '.join(beside)}."] if beside else []))


def _kind(schema: Mapping[str, Any], models: Mapping[str, Any]) -> str:
    """Return the type of a value in a word or two."""
    name = _name(schema)
    if "enum" in models.get(name, {}):
        schema = models[name]
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(kind for each in schema["anyOf"] if (kind := _kind(each, models)) != "null"))
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}), models) or 'any'}"
    return str(schema.get("type", "")) or name


def _name(schema: Mapping[str, Any]) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _row(name: str, text: str) -> str:
    return f"<tr><th><code>{escape(name)}</code></th><td>{escape(text)}</td></tr>"


router = APIRouter(include_in_schema=False)

_POLICY = f"default-src 'none'; style-src {STYLE_SOURCE}; frame-ancestors 'none'"


@router.get("/docs", dependencies=[OPEN])
async def reference(request: Request) -> Response:
    """The API reference as a page."""
    return HTMLResponse(render(request.app.openapi()), headers={"Content-Security-Policy": _POLICY})

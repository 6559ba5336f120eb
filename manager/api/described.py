"""How answers are described in the API's document: always the one envelope."""

from typing import Any

Schema = dict[str, Any]

ANY_OBJECT: Schema = {"type": "object"}
ANY_LIST: Schema = {"type": "array", "items": ANY_OBJECT}


def _content(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


REFUSAL: Schema = {
    "description": "One clear sentence that says what is wrong.",
    "content": _content(
        {
            "type": "object",
            "required": ["ok", "error"],
            "properties": {"ok": {"const": False}, "error": {"type": "string"}},
        }
    ),
}


def answer(description: str, data: Schema | None = None, status: int = 200, /, **beside: Schema) -> dict[Any, Schema]:
    """Return what FastAPI's `responses` takes for an answer with `data` and members beside it."""
    properties = {"ok": {"const": True}, "data": ANY_OBJECT if data is None else data, **beside}
    envelope = {"type": "object", "required": ["ok", "data"], "properties": properties}
    return {status: {"description": description, "content": _content(envelope)}}


def page_of(description: str) -> dict[Any, Schema]:
    """Return what FastAPI's `responses` takes for one page of a list."""
    return answer(description, ANY_LIST, nextCursor={"type": ["string", "null"]})


def record(**members: str) -> Schema:
    """Return the schema of an object whose members each have a JSON type, such as ``"string"`` or ``"string?"``."""
    properties = {
        name: {"type": [kind.removesuffix("?"), "null"] if kind.endswith("?") else kind}
        for name, kind in members.items()
    }
    return {"type": "object", "required": list(members), "properties": properties}


def body_of(component: str) -> Schema:
    """Return the `openapi_extra` of a route whose body is one of the document's components."""
    schema = {"$ref": f"#/components/schemas/{component}"}
    return {"requestBody": {"required": True, "content": _content(schema)}}

"""The API's own document, and a page of it for people that needs nothing from another host."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from manager.api.reference_page import STYLE_SOURCE, render

router = APIRouter(include_in_schema=False)

_POLICY = f"default-src 'none'; style-src {STYLE_SOURCE}; frame-ancestors 'none'"


@router.get("/docs")
async def reference(request: Request) -> Response:
    """The reference as a page."""
    return HTMLResponse(render(request.app.openapi()), headers={"Content-Security-Policy": _POLICY})

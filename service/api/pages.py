"""The API's own pages: Swagger UI and the OpenAPI document. Nothing is loaded from other hosts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi.openapi.docs import get_swagger_ui_html

from service.api.http import Call, Operation, Reply
from service.api.wire import to_json
from service.errors import RouteNotFound

# The package ships Swagger UI's files, which FastAPI itself would load from a content delivery network.
_ASSETS = Path(fastapi_offline.__file__).parent / "static"
_TYPES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "favicon.png": "image/png"}


def operations(document: Callable[[], dict[str, Any]]) -> tuple[Operation, ...]:
    """`document` gives the OpenAPI document once everything is assembled."""

    async def show_document(call: Call) -> Reply:
        return Reply(to_json(document()))

    return (
        _page("/openapi.json", show_document, "The OpenAPI document"),
        _page("/docs", show_page, "Swagger UI"),
        _page("/docs/assets/{name}", show_asset, "Swagger UI's files"),
    )


async def show_page(call: Call) -> Reply:
    """Relative addresses, so that a prefix before this server does no harm."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title="Embedserve",
        swagger_js_url="docs/assets/swagger-ui-bundle.js",
        swagger_css_url="docs/assets/swagger-ui.css",
        swagger_favicon_url="docs/assets/favicon.png",
    )
    return Reply(bytes(page.body), content_type="text/html; charset=utf-8")


async def show_asset(call: Call) -> Reply:
    """Three files by name; no other is reachable."""
    name = call.path_params["name"]
    if name not in _TYPES:
        raise RouteNotFound(call.method, f"/docs/assets/{name}")
    return Reply((_ASSETS / name).read_bytes(), content_type=_TYPES[name], headers={"cache-control": "max-age=86400"})


def _page(path: str, handler: Any, summary: str) -> Operation:
    return Operation("GET", (path,), handler, summary, needs_key=False, documented=False)

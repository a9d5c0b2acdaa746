"""The API's own pages: Swagger UI and the OpenAPI document. Nothing is loaded from other hosts."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi.openapi.docs import get_swagger_ui_html

from service.api.http import Call, Operation, Reply
from service.api.wire import to_json
from service.errors import RouteNotFound

DOCUMENT, PAGE = "/openapi.json", "/docs"
# The package ships Swagger UI's files, which FastAPI itself would load from a content delivery network.
_ASSETS = Path(fastapi_offline.__file__).parent / "static"
_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_TYPES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "favicon.png": "image/png"}


def operations(document: Callable[[], dict[str, Any]]) -> tuple[Operation, ...]:
    """`document` gives the OpenAPI document once everything is assembled."""

    async def show_document(call: Call) -> Reply:
        return Reply(to_json(document()))

    return (
        _page(DOCUMENT, show_document, "The OpenAPI document"),
        _page(PAGE, show_page, "Swagger UI"),
        _page(f"{PAGE}/assets/{{name}}", show_asset, "Swagger UI's files"),
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
    body = bytes(page.body)
    return Reply(body, content_type="text/html; charset=utf-8", headers=_guards(body))


def _guards(page: bytes) -> dict[str, str]:
    """Nothing runs but the page's own scripts, nothing is loaded from elsewhere, and nobody frames it."""
    scripts = [base64.b64encode(hashlib.sha256(one).digest()).decode() for one in _INLINE_SCRIPT.findall(page)]
    allowed = " ".join(f"'sha256-{one}'" for one in scripts)
    policy = (
        f"default-src 'none'; script-src 'self' {allowed}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {"content-security-policy": policy, "x-frame-options": "DENY", "referrer-policy": "no-referrer"}


async def show_asset(call: Call) -> Reply:
    """Three files by name; no other is reachable."""
    name = call.path_params["name"]
    if name not in _TYPES:
        raise RouteNotFound(call.method, f"{PAGE}/assets/{name}")
    return Reply((_ASSETS / name).read_bytes(), content_type=_TYPES[name], cache_control="max-age=86400")


def _page(path: str, handler: Any, summary: str) -> Operation:
    return Operation("GET", (path,), handler, summary, needs_key=False, documented=False)

"""The pages about the API: Swagger UI, served by ourselves, and the documents that it shows.

Nothing is loaded from elsewhere: a cluster may have no way out, and a page that can submit tasks must not
run what others can change.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

import msgspec
from swagger_ui_bundle import swagger_ui_path

from rota.coordinator.http.answers import Answer, Header
from rota.coordinator.http.endpoint import Call, Endpoint, Handler
from rota.coordinator.http.openapi import as_openapi_30, openapi_document
from rota.core.errors import NotFound

__all__ = ["page_endpoints"]

_POLICY: Final[Header] = (
    b"content-security-policy",
    # Swagger UI sets styles on elements and has its icons in data URLs; scripts come from files only.
    b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
)
_HTML: Final[Header] = (b"content-type", b"text/html; charset=utf-8")
_CSS: Final[Header] = (b"content-type", b"text/css; charset=utf-8")
_SCRIPT: Final[Header] = (b"content-type", b"text/javascript; charset=utf-8")
_PNG: Final[Header] = (b"content-type", b"image/png")
_KEEP: Final[Header] = (b"cache-control", b"private, max-age=3600")

_ASSETS: Final = {
    "swagger-ui.css": _CSS,
    "swagger-ui-bundle.js": _SCRIPT,
    "favicon-32x32.png": _PNG,
}
"""What of the package is served: named one by one, so that no path can lead elsewhere."""

_PAGE: Final = b"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Rota: the API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""

_START: Final = b"""window.ui = SwaggerUIBundle({
  url: "/docs/openapi-3.0.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});
"""


def page_endpoints(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """The endpoints that show the others. They don't document themselves."""
    api = tuple(endpoints)

    @cache
    def document() -> bytes:
        return msgspec.json.encode(openapi_document(api))

    async def get_openapi(call: Call) -> Answer:  # noqa: ARG001 - all handlers are called alike
        return Answer(200, document())

    async def get_file(call: Call) -> Answer:
        name = call.path_values["file"]
        if name == "openapi-3.0.json":
            return Answer(200, msgspec.json.encode(as_openapi_30(msgspec.json.decode(document()))))
        return _file(name)

    return (
        _page("/", "Lead to the documentation", _to_docs),
        _page("/docs", "The documentation, to read and to try", _get_page),
        _page("/docs/{file}", "What that page needs", get_file),
        _page("/openapi.json", "The description of this API", get_openapi),
    )


def _page(path: str, summary: str, handler: Handler) -> Endpoint:
    return Endpoint(method="GET", path=path, summary=summary, handler=handler, answers=())


async def _to_docs(call: Call) -> Answer:  # noqa: ARG001 - all handlers are called alike
    return Answer(307, b"", ((b"location", b"/docs"),))


async def _get_page(call: Call) -> Answer:  # noqa: ARG001 - all handlers are called alike
    return Answer(200, _PAGE, (_HTML, _POLICY))


@cache
def _file(name: str) -> Answer:
    if name == "start.js":
        return Answer(200, _START, (_SCRIPT,))
    if name not in _ASSETS:
        raise NotFound(f"there is no page /docs/{name}")
    return Answer(200, (swagger_ui_path / name).read_bytes(), (_ASSETS[name], _KEEP))

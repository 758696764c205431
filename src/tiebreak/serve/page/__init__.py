"""The page at /: files of this folder and nothing from elsewhere, which a strict policy holds it to."""

from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Response

from tiebreak.serve.service import Service

PATHS = frozenset({"/", "/page.css", "/page.js", "/page.json"})
"""What is answered without a key: none of it is anybody's text."""

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def router(service: Service, takes_votes: bool, has_pairs: bool) -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    for path, (name, kind) in _FILES.items():
        routes.add_api_route(path, _file(name, kind))

    @routes.get("/page.json")
    async def about() -> dict[str, Any]:
        """What the page has to know before it asks."""
        return {"model": service.name, "votes": takes_votes, "pairs": has_pairs}

    return routes


def _file(name: str, kind: str) -> Any:
    content = files(__package__).joinpath(name).read_bytes()

    async def response() -> Response:
        return Response(content, media_type=kind, headers=_HEADERS)

    return response

"""`GET /`: the playground, a page that ranks documents and explains the ranking, and the files that it consists of.

Its files are public, with or without API keys: they hold no secret, and the page asks for a key before it calls the
API. The page comes from the server alone, which the headers make browsers enforce.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Scope

_FOLDER = Path(__file__).parents[1] / "playground"
_PAGE = "index.html"
_PREFIX = "/playground/"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
}
_HEADERS = {
    # A browser asks each time whether its copy is still the server's, so that the files are of one version.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def is_playground(scope: Scope) -> bool:
    """Whether a request is for the page or one of its files, which need no API key."""
    if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
        return False
    path: str = scope["path"]
    return path.startswith(_PREFIX) or (path == "/" and _wants_page(Headers(scope=scope)))


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    etag: str


class Playground:
    """The page and its files. They are read when the first of them is asked for.

    served: whether there is a page; otherwise, browsers too are led to the API document.
    """

    def __init__(self, *, served: bool) -> None:
        self._served = served

    def routes(self) -> list[BaseRoute]:
        """Their paths and handlers."""
        return [Route("/", self.page), *([Route(_PREFIX + "{name}", self.file)] if self._served else [])]

    async def page(self, request: Request) -> Response:
        """Answer `GET /`: browsers get the page, and other clients are led to the API document."""
        if not self._served or not _wants_page(request.headers):
            return RedirectResponse("/docs", status_code=307, headers={"Vary": "Accept"})
        return _answer(request, self._files[_PAGE], {"Vary": "Accept"})

    async def file(self, request: Request) -> Response:
        """Answer `GET /playground/{name}`."""
        file = self._files.get(request.path_params["name"])
        if file is None:
            raise HTTPException(404)
        return _answer(request, file, {})

    @cached_property
    def _files(self) -> dict[str, _File]:
        """The files by name: no other path leads into the file system."""
        return {path.name: _read(path) for path in _FOLDER.iterdir() if path.suffix in _TYPES}


def _read(path: Path) -> _File:
    content = path.read_bytes()
    return _File(content, _TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _answer(request: Request, file: _File, headers: dict[str, str]) -> Response:
    headers = {**_HEADERS, **headers, "ETag": file.etag}
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if file.etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers={**headers, "Content-Type": file.media_type})


def _wants_page(headers: Headers) -> bool:
    """Whether a client asks for HTML by name, as browsers do and programs do not."""
    return "text/html" in ",".join(headers.getlist("accept")).lower()

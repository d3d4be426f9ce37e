"""Answers to requests, with what a browser may do with them."""

from http import HTTPStatus
from pathlib import Path

from websockets.datastructures import Headers
from websockets.http11 import Response

_PAGE = Path(__file__).with_name("page")
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# Nothing is loaded from anywhere else. The 3-D scene brings its scripts and fonts inside its page.
_POLICY = "default-src 'self'; img-src 'self' blob: data:; connect-src 'self'"
SCENE_POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:; connect-src 'self' blob: data:"


class Responses:
    """Answers of a server.

    Parameters
    ----------
    framed_by : other sites that may show its pages in a frame.

    """

    def __init__(self, framed_by: str = "") -> None:
        self._ancestors = f"frame-ancestors 'self' {framed_by}".rstrip()

    def file(self, name: str) -> Response:
        """File of the page's folder; pages after the head that they share."""
        path = _PAGE / name
        if not path.is_file():
            return self.missing()
        head = (_PAGE / "head.html").read_bytes() if path.suffix == ".html" else b""
        return self.found(head + path.read_bytes(), _TYPES.get(path.suffix, "application/octet-stream"))

    def found(self, body: bytes, kind: str, policy: str = _POLICY) -> Response:
        """Answer with what was asked for, of a media type."""
        return self._of(HTTPStatus.OK, body, kind, policy)

    def missing(self) -> Response:
        """Answer to a path that leads nowhere."""
        return self._of(HTTPStatus.NOT_FOUND, b"there is no such page\n", "text/plain")

    def forbidden(self, why: str) -> Response:
        """Answer to who may not ask."""
        return self._of(HTTPStatus.FORBIDDEN, f"{why}\n".encode(), "text/plain")

    def _of(self, status: HTTPStatus, body: bytes, kind: str, policy: str = _POLICY) -> Response:
        headers = Headers()
        headers["Content-Type"] = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
        headers["Content-Length"] = str(len(body))
        headers["Content-Security-Policy"] = f"{policy}; {self._ancestors}"
        headers["Cache-Control"] = "no-store"
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers["Connection"] = "close"
        return Response(status.value, status.phrase, headers, body)

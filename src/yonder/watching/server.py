"""Serves the live page to browsers of this machine: four addresses, GET only, no file but the page."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import sys
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any, cast
from urllib.parse import urlsplit

from yonder.errors import StorageError
from yonder.watching.live import Live

HOST = "127.0.0.1"
_NAMES = ("127.0.0.1", "localhost", "[::1]")  # any port: it may be forwarded
_HTML, _JSON = "text/html; charset=utf-8", "application/json; charset=utf-8"


class Server(ThreadingHTTPServer):
    """Bound to this machine's loopback alone."""

    daemon_threads = True

    def __init__(self, live: Live, port: int = 0) -> None:
        self.live = live
        try:
            super().__init__((HOST, port), Handler)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no such port"
            raise StorageError(f"port {port} of {HOST} cannot be used ({reason}); give another --port, or 0") from error

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"http://{HOST}:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    timeout = 30  # seconds for a request to come in
    server_version, sys_version = "Yonder", ""

    def do_GET(self) -> None:
        """The frame, the page in it, its JSON twin, or where the runs stand."""
        if not self._is_ours():
            self._answer(403, "this address answers to browsers of this machine only, under the name localhost\n")
            return
        live, path = cast(Server, self.server).live, urlsplit(self.path).path
        if path == "/":
            text, policy = frame()
            self._answer(200, text, _HTML, policy)
        elif path == "/status":
            self._answer(200, json.dumps(live.status()), _JSON)
        elif path in ("/page", "/report.json"):
            made = live.made()
            body, kind = (made.page, _HTML) if path == "/page" else (made.twin, _JSON)
            if body:
                self._answer(200, body, kind, "frame-ancestors 'self'")
            else:
                self._answer(404, "there is no run yet\n")
        else:
            self._answer(404, "there is no such page\n")

    def _refuse(self) -> None:
        self._answer(405, "only GET\n")

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _refuse

    def _is_ours(self) -> bool:
        """Whether the address was typed or linked as this machine's own, and not asked for by another site's page."""
        name = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        site, mode = self.headers.get("Sec-Fetch-Site", "none"), self.headers.get("Sec-Fetch-Mode", "navigate")
        return name.lower() in _NAMES and (site in ("none", "same-origin") or mode == "navigate")

    def _answer(
        self, code: int, body: str | bytes, kind: str = "text/plain; charset=utf-8", policy: str = "default-src 'none'"
    ) -> None:
        """Send a text, or bytes that are gzipped already."""
        packed = isinstance(body, bytes)
        data = body if isinstance(body, bytes) else body.encode()
        if packed and "gzip" not in self.headers.get("Accept-Encoding", ""):
            packed, data = False, gzip.decompress(data)
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if packed:
            self.send_header("Content-Encoding", "gzip")
        if code == 405:
            self.send_header("Allow", "GET")
        for name, value in (
            ("Content-Security-Policy", policy),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Referrer-Policy", "no-referrer"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal belongs to whoever started it."""


@cache
def frame() -> tuple[str, str]:
    """The HTML around the page, which fetches newer pages, and its Content-Security-Policy."""
    web = files("yonder.watching") / "web"
    script, style = (f"\n{(web / name).read_text(encoding='utf-8')}" for name in ("frame.js", "frame.css"))
    html = (web / "frame.html").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; connect-src 'self'; "
        "frame-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
    return html.replace("/* style */", style).replace("/* script */", script), policy


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

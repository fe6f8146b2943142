"""A server of blobs over real HTTP, as a coordinator is one, that fails when a test says so."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["BlobKeep", "BlobServer", "digest_of", "running_blob_server"]


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class BlobKeep:
    """The blobs of a server, and what a test sees and decides of it, whatever it speaks."""

    url: str
    """Where it is."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        """Requests, in the words of HTTP."""
        self.at_once_max = 0
        self.status: int | None = None
        """What every request is answered with, if anything; in gRPC with what stands for it."""
        self.spoils_next = False
        """Whether the next download is not what it should be."""
        self.gate = threading.Event()
        """Cleared, it holds all requests up."""
        self.gate.set()
        self.token: str | None = None
        self._busy = 0
        self._lock = threading.Lock()

    def add(self, content: bytes) -> str:
        digest = digest_of(content)
        self.blobs[digest] = content
        return digest

    def begin(self, method: str) -> None:
        with self._lock:
            self.asked[method] += 1
            self._busy += 1
            self.at_once_max = max(self.at_once_max, self._busy)
        self.gate.wait(20.0)

    def end(self) -> None:
        with self._lock:
            self._busy -= 1


class BlobServer(BlobKeep, ThreadingHTTPServer):
    """One that speaks HTTP."""

    daemon_threads = True

    def __init__(self) -> None:
        BlobKeep.__init__(self)
        ThreadingHTTPServer.__init__(self, ("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: BlobServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve("GET")

    def do_HEAD(self) -> None:
        self._serve("HEAD")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self, method: str) -> None:
        server = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server.begin(method)
        try:
            digest = self.path.removeprefix("/api/v1/blobs/")
            if server.status is not None:
                self._answer(server.status, b"told to")
            elif server.token is not None and self.headers.get("Authorization") != f"Bearer {server.token}":
                self._answer(401, b"who are you")
            elif method == "PUT":
                server.blobs[digest] = body
                self._answer(201)
            elif digest not in server.blobs:
                self._answer(404, b"no such blob")
            elif server.spoils_next:
                server.spoils_next = False
                self._answer(200, b"garbage")
            else:
                self._answer(200, server.blobs[digest])
        finally:
            server.end()

    def _answer(self, status: int, content: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def running_blob_server() -> Iterator[BlobServer]:
    with BlobServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.gate.set()
            server.shutdown()
            thread.join()

"""What a client says when a proxy answers in the coordinator's place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from rota.client.http import HttpClient
from rota.core.errors import NoCoordinator, RotaError, TooLarge


@contextmanager
def proxy_that_answers(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<html><h1>nginx</h1></html>"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    "status, error, words",
    [
        (413, TooLarge, "client_max_body_size"),
        (502, NoCoordinator, "a proxy that can't reach its coordinator"),
        (504, NoCoordinator, "a proxy that can't reach its coordinator"),
        (418, NoCoordinator, "not as a Rota coordinator does: check ROTA_URL"),
    ],
)
def test_an_answer_of_a_proxy_is_told_as_one(status: int, error: type[RotaError], words: str) -> None:
    ask: Callable[[HttpClient], object] = HttpClient.nodes
    with proxy_that_answers(status) as url, HttpClient(url) as client, pytest.raises(error, match=words):
        ask(client)

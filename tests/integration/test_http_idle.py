"""Connections that bring no request: they end, whoever keeps sending bytes on them."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from rota.coordinator.http import GuardConfig, build_app
from rota.coordinator.http.protocol import JoiningHttpProtocol
from rota.coordinator.metrics import Counters
from rota.store.blobs import BlobStore
from tests.support.fake_service import FakeService
from tests.support.http_server import RunningServer, running_server

SOON_S = 0.05
BOUND_S = 10.0


async def drip(server: RunningServer, first: bytes, drop: bytes) -> bytes:
    """Send something, and then a drop again and again until the other side closes; return all that came back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    received = bytearray()
    try:
        writer.write(first)
        async with asyncio.timeout(BOUND_S):
            while True:
                try:
                    async with asyncio.timeout(SOON_S / 5):
                        data = await reader.read(65536)
                except TimeoutError:
                    writer.write(drop)
                    continue
                if not data:
                    return bytes(received)
                received += data
    except ConnectionError:
        return bytes(received)
    finally:
        writer.close()


@pytest.mark.parametrize(
    "first, drop, answer",
    [
        (b"", b"", b""),
        (b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", b"x", b""),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /heal", b"", b"HTTP/1.1 200 OK"),
        (b"PUT /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n", b"x", b"HTTP/1.1 404 "),
    ],
    ids=["nothing", "a head without end", "a second head without end", "a body without end that nobody wants"],
)
async def test_a_connection_without_a_request_is_closed_in_time(
    first: bytes, drop: bytes, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(JoiningHttpProtocol, "request_within_s", SOON_S)
    app = build_app(FakeService(), guard=GuardConfig(), counters=Counters(), blobs=BlobStore(None))
    async with running_server(app) as server:
        assert (await drip(server, first, drop)).startswith(answer)


async def test_a_request_that_takes_long_to_answer_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JoiningHttpProtocol, "request_within_s", SOON_S)
    app = build_app(FakeService(), guard=GuardConfig(), counters=Counters(), blobs=BlobStore(None))
    async with running_server(app) as server, httpx.AsyncClient(base_url=server.url) as client:
        await client.post("/api/v1/tasks", json={"command": ["true"]})
        assert (await client.get("/api/v1/tasks/t1", params={"wait": 6 * SOON_S})).status_code == 200

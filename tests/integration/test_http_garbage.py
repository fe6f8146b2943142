"""The coordinator runs without the cyclic collector: requests must leave nothing for it, failed ones neither."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import re
from pathlib import Path

import pytest

from rota.coordinator.http import GuardConfig, build_app
from rota.coordinator.metrics import Counters
from rota.store.blobs import BlobStore
from tests.support.fake_service import FakeService
from tests.support.http_server import RunningServer, running_server

REQUESTS = 200
GARBAGE_MAX = REQUESTS // 2
"""Less than one object a request. What is left is of the connections: some twenty each, however much they carried."""

ROUNDS_MAX = 3
"""What requests leave they leave each time; what tests before this one have left in this process comes once."""

TASK = b'{"shell": ":"}'


def request(method: bytes, path: bytes, body: bytes = b"") -> bytes:
    return b"%b %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (method, path, len(body), body)


async def ask(server: RunningServer, text: bytes, *, times: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for _ in range(times):
        writer.write(text)
        length = re.search(rb"content-length: (\d+)", await reader.readuntil(b"\r\n\r\n"))
        assert length is not None
        await reader.readexactly(int(length[1]))
    writer.close()
    await writer.wait_closed()


LARGE = bytes(1 << 20)


def blob(method: bytes, data: bytes, body: bytes = b"") -> bytes:
    return request(method, b"/api/v1/blobs/" + hashlib.sha256(data).hexdigest().encode(), body)


@pytest.mark.parametrize(
    "text",
    [
        request(b"POST", b"/api/v1/tasks", TASK),
        request(b"POST", b"/api/v1/tasks", b"{}"),
        request(b"POST", b"/api/v1/heartbeat", b'{"worker_id": "w", "max_tasks": 1, "resource_tags": ["a"]}'),
        request(b"POST", b"/api/v1/schedule", b'{"task_id": "t"}'),
        request(b"POST", b"/api/v1/schedule", b'{"task_id": "t", "max_wait_ms": 1}'),
        request(b"POST", b"/api/v1/schedule", b'{"task_id": ""}'),
        request(b"GET", b"/api/v1/tasks/t1"),
        request(b"GET", b"/api/v1/tasks/t1?wait=0.0001"),
        request(b"GET", b"/api/v1/tasks/none?wait=1"),
        request(b"GET", b"/api/v1/tasks?state=nonsense"),
        request(b"GET", b"/nothing"),
        request(b"GET", b"/api/v1/tasks/t1/result"),
        blob(b"PUT", b"blob", b"blob"),
        blob(b"PUT", b"blob", b"other"),
        blob(b"PUT", b"no blob", b"blob"),
        blob(b"GET", b"blob"),
        blob(b"GET", LARGE),
        blob(b"GET", b"no blob"),
    ],
    ids=[
        "accepted",
        "refused",
        "heartbeat",
        "no room",
        "waited for room",
        "no task",
        "shown",
        "waited",
        "not found while waiting",
        "bad query",
        "nothing there",
        "no result",
        "blob put again",
        "other bytes put again",
        "wrong blob put",
        "blob read",
        "large blob read",
        "no such blob",
    ],
)
async def test_requests_leave_nothing_for_the_cyclic_collector(text: bytes, tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "blobs", durable=False)
    await asyncio.to_thread(blobs.open)
    app = build_app(FakeService(), guard=GuardConfig(), counters=Counters(), blobs=blobs)
    async with running_server(app) as server:
        await ask(server, request(b"POST", b"/api/v1/tasks", TASK), times=1)
        for data in (b"blob", LARGE):
            await ask(server, blob(b"PUT", data, data), times=1)
        await ask(server, text, times=3)
        await server.wait_until_left()  # else what is left of these four counts, too
        gc.collect()
        gc.disable()
        try:
            found: list[int] = []
            while not found or (found[-1] >= GARBAGE_MAX and len(found) < ROUNDS_MAX):
                await ask(server, text, times=REQUESTS)
                found.append(gc.collect())
            assert found[-1] < GARBAGE_MAX, found
        finally:
            gc.enable()
    await asyncio.to_thread(blobs.close)

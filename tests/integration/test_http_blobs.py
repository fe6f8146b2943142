"""Blobs and results over a real server: whole or not at all, in bounded memory, with a sentence for what is wrong."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import httpx
import pytest

from rota.coordinator.blob_traffic import PORTION_BYTES
from rota.coordinator.http import GuardConfig, build_app
from rota.coordinator.metrics import Counters
from rota.core.model import Cause, TaskState
from rota.store import blob_files
from rota.store.blobs import BlobStore
from tests.support.disks import fill, small_disk
from tests.support.fake_service import FakeService
from tests.support.http_server import RunningServer, running_server
from tests.support.waiting import wait_until_async

MIB: Final = 1 << 20
TASKS: Final = "/api/v1/tasks"


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def path_of(data: bytes) -> str:
    return f"/api/v1/blobs/{digest_of(data)}"


@pytest.fixture
async def blobs(tmp_path: Path) -> AsyncIterator[BlobStore]:
    store = BlobStore(tmp_path / "blobs")
    await asyncio.to_thread(store.open)
    yield store
    await asyncio.to_thread(store.close)


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
async def server(service: FakeService, blobs: BlobStore) -> AsyncIterator[RunningServer]:
    app = build_app(service, guard=GuardConfig(), counters=Counters(), blobs=blobs)
    async with running_server(app) as running:
        yield running


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=20.0) as found:
        yield found


async def portions_of(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def is_open(path: str) -> bool:
    """Whether a file of this process is open whose name ends so."""
    opened = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the listing was open, too
            opened.append(os.readlink(f"/proc/self/fd/{number}"))
    return any(name.endswith(path) for name in opened)


def incoming(blobs: BlobStore) -> list[str]:
    return os.listdir(Path(blobs.home.path) / "incoming")


# Blobs


@pytest.mark.parametrize("size", [0, 1, 65_536, PORTION_BYTES, PORTION_BYTES + 1, 5 * MIB + 7])
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_what_was_put_is_read_again(client: httpx.AsyncClient, size: int, *, is_chunked: bool) -> None:
    data = os.urandom(size)
    content = portions_of(data, 100_000) if is_chunked else data
    put = await client.put(path_of(data), content=content)
    assert put.status_code == 201
    assert put.json() == {"digest": digest_of(data), "bytes": size}
    assert put.headers["location"] == path_of(data)
    again = await client.put(path_of(data), content=data)
    assert (again.status_code, again.json()) == (200, put.json())
    got = await client.get(path_of(data))
    assert (got.status_code, got.content) == (200, data)
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["content-length"] == str(size)
    assert got.headers["etag"] == f'"{digest_of(data)}"'
    assert "immutable" in got.headers["cache-control"]
    head = await client.head(path_of(data))
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(size)


async def test_what_is_not_there_is_not_found(client: httpx.AsyncClient) -> None:
    got = await client.get(path_of(b"nowhere"))
    assert (got.status_code, got.json()["code"]) == (404, "not_found")
    assert (await client.head(path_of(b"nowhere"))).status_code == 404


@pytest.mark.parametrize("name", ["abc", "A" * 64, "g" * 64, "a" * 65, "..%2f..%2frota.db"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_what_can_be_no_digest_is_refused(client: httpx.AsyncClient, name: str, method: str) -> None:
    answer = await client.request(method, f"/api/v1/blobs/{name}", content=b"data" if method == "PUT" else None)
    assert answer.status_code in (400, 404)  # a slash makes it another path
    if answer.status_code == 400:
        assert answer.json()["code"] == "bad_digest"
        assert "64 hexadecimal digits" in answer.json()["error"]


async def test_other_bytes_are_refused_with_both_digests(client: httpx.AsyncClient, blobs: BlobStore) -> None:
    answer = await client.put(path_of(b"right"), content=b"wrong")
    assert (answer.status_code, answer.json()["code"]) == (400, "wrong_digest")
    assert digest_of(b"right") in answer.json()["error"]
    assert digest_of(b"wrong") in answer.json()["error"]
    assert (await client.head(path_of(b"right"))).status_code == 404
    assert incoming(blobs) == []


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_too_many_bytes_are_refused(
    client: httpx.AsyncClient, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch, *, is_chunked: bool
) -> None:
    monkeypatch.setattr(blob_files, "BLOB_BYTES_MAX", MIB)
    data = bytes(MIB + 1)
    answer = await client.put(path_of(data), content=portions_of(data, 50_000) if is_chunked else data)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert "1,048,576" in answer.json()["error"]
    assert incoming(blobs) == []
    assert (await client.put(path_of(data[1:]), content=data[1:])).status_code == 201, (
        "the connection is as good as new"
    )


async def test_a_client_that_goes_away_has_put_nothing(
    server: RunningServer, client: httpx.AsyncClient, blobs: BlobStore
) -> None:
    data = os.urandom(3 * MIB)
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = f"PUT {path_of(data)} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data[: 2 * MIB])
    await writer.drain()
    await wait_until_async(lambda: incoming(blobs), what="the upload to begin")
    writer.close()
    await wait_until_async(lambda: not incoming(blobs), what="what came of it to be removed")
    assert (await client.head(path_of(data))).status_code == 404


async def test_many_who_put_the_same_at_once_have_put_it_once(client: httpx.AsyncClient, blobs: BlobStore) -> None:
    data = os.urandom(MIB)
    answers = await asyncio.gather(*(client.put(path_of(data), content=portions_of(data, 65_536)) for _ in range(8)))
    assert [answer.status_code for answer in answers].count(201) == 1
    assert {answer.status_code for answer in answers} == {200, 201}
    assert (blobs.count, blobs.total_bytes) == (1, MIB)
    assert incoming(blobs) == []


async def test_large_blobs_are_not_held_in_memory(client: httpx.AsyncClient) -> None:
    portion = os.urandom(MIB)
    found = hashlib.sha256()
    for _ in range(64):
        found.update(portion)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield portion

    path = f"/api/v1/blobs/{found.hexdigest()}"
    tracemalloc.start()
    try:
        assert (await client.put(path, content=body())).status_code == 201
        size = 0
        async with client.stream("GET", path) as answer:
            async for chunk in answer.aiter_raw():
                size += len(chunk)
        assert size == 64 * MIB
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    finally:
        tracemalloc.stop()


async def test_a_reader_that_leaves_in_the_middle_leaves_no_file_open(
    server: RunningServer, client: httpx.AsyncClient
) -> None:
    data = os.urandom(8 * MIB)
    await client.put(path_of(data), content=data)
    async with client.stream("GET", path_of(data)) as answer:
        await anext(answer.aiter_raw())
        assert server.app.open_streams == 1
    await wait_until_async(lambda: server.app.open_streams == 0, what="the stream to end")
    path = str(Path("blobs") / digest_of(data)[:2] / digest_of(data))
    await wait_until_async(lambda: not is_open(path), what="the file to be closed")


async def test_a_server_that_stops_sends_a_blob_to_its_end(server: RunningServer, client: httpx.AsyncClient) -> None:
    data = os.urandom(8 * MIB)
    await client.put(path_of(data), content=data)
    async with client.stream("GET", path_of(data)) as answer:
        chunks = answer.aiter_raw()
        got = await anext(chunks)
        server.app.stop_streams()
        async for chunk in chunks:
            got += chunk
    assert got == data


async def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_mib=4) as disk:
        store = BlobStore(disk / "blobs")
        await asyncio.to_thread(store.open)
        app = build_app(FakeService(), guard=GuardConfig(), counters=Counters(), blobs=store)
        async with running_server(app) as server, httpx.AsyncClient(base_url=server.url) as client:
            small = b"small"
            assert (await client.put(path_of(small), content=small)).status_code == 201
            large = os.urandom(8 * MIB)
            answer = await client.put(path_of(large), content=portions_of(large, MIB))
            assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
            assert "no room left" in answer.json()["error"]
            assert answer.headers["retry-after"]
            assert incoming(store) == []
            ballast = fill(disk)
            assert (await client.get(path_of(small))).content == small, "reads go on"
            ballast.unlink()
            assert (await client.put(path_of(large[:MIB]), content=large[:MIB])).status_code == 201
        await asyncio.to_thread(store.close)


async def test_who_asks_for_a_blob_may_name_it_for_a_while(tmp_path: Path, service: FakeService) -> None:
    now = 1_000_000.0
    store = BlobStore(tmp_path / "others", clock=lambda: now)
    store.open()
    store.put([b"old"], digest_of(b"old"))
    os.utime(store.path(digest_of(b"old")), (now, now))
    app = build_app(service, guard=GuardConfig(), counters=Counters(), blobs=store)
    async with running_server(app) as running, httpx.AsyncClient(base_url=running.url) as asking:
        now += 10 * 86_400.0
        assert (await asking.head(path_of(b"old"))).status_code == 200
        now += 500.0
        assert store.sweep(set(), wall=now, bytes_max=1 << 30, max_age_s=86_400.0) == 0
        assert store.has(digest_of(b"old"))
    store.close()


# Results


async def make_ended(
    client: httpx.AsyncClient, service: FakeService, *, value: bytes = b"", blobs: tuple[str, ...] = ()
) -> str:
    task_id = str((await client.post(TASKS, json={"shell": ":"})).json()["id"])
    service.start(task_id)
    service.end(task_id)
    progress = (await service.get(task_id)).record.progress
    progress.value, progress.blobs = value, blobs
    return task_id


async def test_a_small_result_is_the_bytes_that_were_reported(client: httpx.AsyncClient, service: FakeService) -> None:
    task_id = await make_ended(client, service, value=b"\0pickled")
    answer = await client.get(f"{TASKS}/{task_id}/result")
    assert (answer.status_code, answer.content) == (200, b"\0pickled")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-rota-state"] == "completed"
    assert "x-rota-cause" not in answer.headers


async def test_what_a_function_raised_is_a_result_too(client: httpx.AsyncClient, service: FakeService) -> None:
    task_id = await make_ended(client, service, value=b"\0exception")
    progress = (await service.get(task_id)).record.progress
    progress.state, progress.cause = TaskState.FAILED, Cause.ERROR
    answer = await client.get(f"{TASKS}/{task_id}/result")
    assert (answer.status_code, answer.content) == (200, b"\0exception")
    assert (answer.headers["x-rota-state"], answer.headers["x-rota-cause"]) == ("failed", "error")


@pytest.mark.parametrize("size", [100_000, 3 * MIB])
async def test_a_large_result_is_the_content_of_its_blob(
    client: httpx.AsyncClient, service: FakeService, blobs: BlobStore, size: int
) -> None:
    data = os.urandom(size)
    await asyncio.to_thread(blobs.put, [data], digest_of(data))
    task_id = await make_ended(client, service, value=b"\2name of the blob", blobs=(digest_of(data),))
    answer = await client.get(f"{TASKS}/{task_id}/result")
    assert (answer.status_code, answer.content) == (200, data)
    assert answer.headers["x-rota-state"] == "completed"
    head = await client.head(f"{TASKS}/{task_id}/result")
    assert (head.status_code, head.headers["content-length"]) == (200, str(size))


async def test_a_large_result_that_was_removed_is_gone(client: httpx.AsyncClient, service: FakeService) -> None:
    task_id = await make_ended(client, service, value=b"\2name of the blob", blobs=(digest_of(b"removed"),))
    answer = await client.get(f"{TASKS}/{task_id}/result")
    assert (answer.status_code, answer.json()["code"]) == (410, "result_gone")
    assert "run it again" in answer.json()["error"]


async def test_what_has_no_result_says_why(client: httpx.AsyncClient, service: FakeService) -> None:
    unknown = await client.get(f"{TASKS}/t99/result")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    without = await client.get(f"{TASKS}/{await make_ended(client, service)}/result")
    assert (without.status_code, without.json()["code"]) == (404, "no_result")
    waiting = str((await client.post(TASKS, json={"shell": ":"})).json()["id"])
    early = await client.get(f"{TASKS}/{waiting}/result", params={"wait": 0.01})
    assert (early.status_code, early.json()["code"]) == (409, "not_ended")


async def test_a_result_is_waited_for(client: httpx.AsyncClient, service: FakeService) -> None:
    task_id = str((await client.post(TASKS, json={"shell": ":"})).json()["id"])
    service.start(task_id)
    asking = asyncio.create_task(client.get(f"{TASKS}/{task_id}/result", params={"wait": 10}))
    await wait_until_async(lambda: service.waits == 1, what="the request to wait")
    (await service.get(task_id)).record.progress.value = b"\0late"
    service.end(task_id)
    assert (await asking).content == b"\0late"

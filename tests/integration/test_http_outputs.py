"""The files that tasks brought back, over a real server: as downloads, by names with slashes and worse in them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

import httpx
import pytest

from rota.coordinator.http import GuardConfig, build_app
from rota.coordinator.metrics import Counters
from rota.core.model import OutputFile
from rota.store.blobs import BlobStore
from tests.support.fake_service import FakeService
from tests.support.http_server import RunningServer, running_server
from tests.support.waiting import wait_until_async

TASKS: Final = "/api/v1/tasks"
PAGE: Final = b"<script>alert(1)</script>"
LARGE: Final = b"x" * (3 << 20)
ODD_NAMES: Final = (
    "a.html",
    "plots/März 2030/é ü.png",
    "50%.txt",
    "what?#&=.txt",
    'say "hi"; x=1',
    "...",
    "*",
)


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
async def client(service: FakeService, blobs: BlobStore) -> AsyncIterator[httpx.AsyncClient]:
    app = build_app(service, guard=GuardConfig(), counters=Counters(), blobs=blobs)
    server: RunningServer
    async with running_server(app) as server, httpx.AsyncClient(base_url=server.url, timeout=20.0) as found:
        yield found


async def submit(client: httpx.AsyncClient) -> str:
    answer = await client.post(TASKS, json={"command": ["true"], "outputs": ["**"]})
    return str(answer.json()["id"])


async def end_with(service: FakeService, task_id: str, blobs: BlobStore, files: dict[str, bytes]) -> None:
    outputs = []
    for name, content in files.items():
        digest = hashlib.sha256(content).hexdigest()
        await asyncio.to_thread(blobs.put, [content], digest)
        outputs.append(OutputFile(name, digest, len(content), executable=name.endswith(".sh")))
    service.end(task_id, outputs=tuple(outputs))


async def test_outputs_are_listed_and_stand_in_the_task(
    client: httpx.AsyncClient, service: FakeService, blobs: BlobStore
) -> None:
    task_id = await submit(client)
    await end_with(service, task_id, blobs, {"out/a.html": PAGE, "run.sh": b"#!/bin/sh\n"})
    listed = (await client.get(f"{TASKS}/{task_id}/outputs")).json()
    digest = hashlib.sha256(PAGE).hexdigest()
    assert listed[0] == {"name": "out/a.html", "bytes": len(PAGE), "digest": digest, "executable": False}
    assert [output["executable"] for output in listed] == [False, True]
    shown = (await client.get(f"{TASKS}/{task_id}")).json()
    assert (shown["outputs"], shown["output_files"]) == (["**"], listed)
    [in_list] = (await client.get(TASKS)).json()
    assert not {"files", "outputs", "output_files"} & in_list.keys()


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_an_output_is_saved_and_never_shown(
    client: httpx.AsyncClient, service: FakeService, blobs: BlobStore, name: str
) -> None:
    task_id = await submit(client)
    await end_with(service, task_id, blobs, {name: PAGE})
    answer = await client.get(f"{TASKS}/{task_id}/outputs/{quote(name, safe='/')}")
    assert (answer.status_code, answer.content) == (200, PAGE)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    last = quote(name.rpartition("/")[2], safe="")
    assert answer.headers["content-disposition"] == f"attachment; filename*=UTF-8''{last}"
    assert answer.headers["etag"] == f'"{hashlib.sha256(PAGE).hexdigest()}"'
    whole = await client.get(f"{TASKS}/{task_id}/outputs/{quote(name, safe='')}")  # slashes encoded, too
    assert whole.content == PAGE


async def test_an_output_whose_name_no_path_may_have_is_there_by_its_digest(
    client: httpx.AsyncClient, service: FakeService, blobs: BlobStore
) -> None:
    task_id = await submit(client)
    await end_with(service, task_id, blobs, {"a\u202eb": PAGE})
    [output] = (await client.get(f"{TASKS}/{task_id}/outputs")).json()
    assert (await client.get(f"{TASKS}/{task_id}/outputs/{quote(output['name'])}")).status_code == 400
    assert (await client.get(f"/api/v1/blobs/{output['digest']}")).content == PAGE


async def test_a_large_output_comes_whole_and_a_head_tells_its_size(
    client: httpx.AsyncClient, service: FakeService, blobs: BlobStore
) -> None:
    task_id = await submit(client)
    await end_with(service, task_id, blobs, {"large": LARGE})
    assert (await client.get(f"{TASKS}/{task_id}/outputs/large")).content == LARGE
    head = await client.head(f"{TASKS}/{task_id}/outputs/large")
    assert (head.headers["content-length"], head.content) == (str(len(LARGE)), b"")


async def test_what_is_not_there_says_why(client: httpx.AsyncClient, service: FakeService, blobs: BlobStore) -> None:
    task_id = await submit(client)
    early = await client.get(f"{TASKS}/{task_id}/outputs")
    assert (early.status_code, early.json()["code"]) == (409, "not_ended")
    service.end(task_id, outputs=(OutputFile("gone", "ab" * 32, 7),))
    gone = await client.get(f"{TASKS}/{task_id}/outputs/gone")
    assert (gone.status_code, gone.json()["code"]) == (410, "result_gone")
    for name in ("other", "../../../healthz", "%2e%2e%2fgone", "gone/", "GONE"):
        other = await client.get(f"{TASKS}/{task_id}/outputs/{quote(name, safe='%')}")
        assert (other.status_code, other.json()["code"]) == (404, "no_output"), name
    assert (await client.get(f"{TASKS}/t99/outputs")).status_code == 404


async def test_outputs_are_waited_for(client: httpx.AsyncClient, service: FakeService, blobs: BlobStore) -> None:
    task_id = await submit(client)
    asking = asyncio.create_task(client.get(f"{TASKS}/{task_id}/outputs/a", params={"wait": 10}))
    await wait_until_async(lambda: service.waits == 1, what="the request to wait")
    await end_with(service, task_id, blobs, {"a": PAGE})
    assert (await asking).content == PAGE

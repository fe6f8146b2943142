"""Blobs in a coordinator: on the disk before what names them is, there while they are needed, also after a kill -9."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import socket
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from rota.core.commands import ReportArrived, SessionId
from rota.core.errors import Conflict, StoreBroken
from rota.core.model import TaskSeq
from rota.core.protocol import Ended, Report
from rota.process.clock import wall_s
from rota.store.blob_files import is_marked_durable
from rota.store.blobs import YOUNG_S
from tests.support.disks import fill, small_disk
from tests.support.inner_coordinator import InnerCoordinator, inner_coordinator
from tests.support.real_cluster import Cluster
from tests.support.waiting import wait_until, wait_until_async

MIB: Final = 1 << 20


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def put(coordinator: InnerCoordinator, data: bytes) -> str:
    digest = digest_of(data)
    await asyncio.to_thread(coordinator.house.blobs.put, [data], digest)
    return digest


async def submit(coordinator: InnerCoordinator, function: str, *blobs: str, **fields: Any) -> tuple[int, Any]:
    task = {"function": function, "blobs": list(blobs), **fields}
    return await coordinator.ask("POST", "/api/v1/tasks", task)


def is_on_disk(coordinator: InnerCoordinator, digest: str) -> bool:
    return is_marked_durable(coordinator.house.blobs.path(digest).stat())


async def test_what_a_task_names_is_on_the_disk_when_it_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator:
        function, argument = await put(coordinator, b"function"), await put(coordinator, b"argument")
        assert not is_on_disk(coordinator, function)
        coordinator.store.commits_open.clear()
        submitting = asyncio.create_task(submit(coordinator, function, argument))
        await coordinator.wait_until_waiting()
        assert is_on_disk(coordinator, function), "before the commit, not after it"
        assert is_on_disk(coordinator, argument)
        coordinator.store.commits_open.set()
        assert (await submitting)[0] == 201


async def test_a_task_whose_blobs_are_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator:
        function = await put(coordinator, b"function")
        for missing in ((digest_of(b"no function"),), (function, digest_of(b"no argument"))):
            status, refusal = await submit(coordinator, *missing)
            assert (status, refusal["code"]) == (400, "blob_missing")
            assert missing[-1] in refusal["error"]


async def test_what_a_task_needs_outlives_every_bound_until_the_task_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inner_coordinator(tmp_path, monkeypatch, blob_retention_bytes=MIB) as coordinator:
        blobs = coordinator.house.blobs
        function, argument = await put(coordinator, b"function"), await put(coordinator, b"argument")
        filler = await put(coordinator, os.urandom(2 * MIB))
        _, task = await submit(coordinator, function, argument)
        for digest in (function, argument, filler):
            os.utime(blobs.path(digest), (0, 0))
        sweep = coordinator.house._blob_retention.run_once
        wall = wall_s() + YOUNG_S + 60.0
        assert await sweep(wall=wall) == 1
        assert [blobs.has(digest) for digest in (function, argument, filler)] == [True, True, False]
        await coordinator.cancel(task["id"])
        for digest in (function, argument):
            os.utime(blobs.path(digest), (0, 0))
        assert await sweep(wall=wall + 8 * 86_400.0) == 2


async def test_a_retry_is_refused_when_what_it_needs_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator:
        function, argument = await put(coordinator, b"function"), await put(coordinator, b"argument")
        _, task = await submit(coordinator, function, argument)
        retry = f"/api/v1/tasks/{task['id']}/retry"
        await coordinator.cancel(task["id"])
        assert (await coordinator.ask("POST", retry))[0] == 200
        await coordinator.cancel(task["id"])
        coordinator.house.blobs.path(argument).unlink()
        assert coordinator.house.blobs.open_blob(argument) is None
        status, refusal = await coordinator.ask("POST", retry)
        assert (status, refusal["code"]) == (409, Conflict.code)
        assert "no longer kept" in refusal["error"]
        await put(coordinator, b"argument")
        assert (await coordinator.ask("POST", retry))[0] == 200


async def test_a_large_result_is_on_the_disk_when_the_end_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator:
        coordinator.say_hello(1)
        _, task = await coordinator.submit()
        data = os.urandom(100_000)
        digest = await put(coordinator, data)
        end = Ended(TaskSeq(1), 1, None, value=b"\2a name", blobs=(digest, "../../rota.db"))
        coordinator.put(ReportArrived(SessionId(1), Report(1, ended=[end])))
        status, _ = await coordinator.ask("GET", f"/api/v1/tasks/{task['id']}?wait=10")
        assert status == 200
        assert is_on_disk(coordinator, digest)
        assert (tmp_path / "state" / "rota.db").stat().st_mode & 0o200, "a name that leads elsewhere is not followed"
        result = await coordinator._client.get(f"/api/v1/tasks/{task['id']}/result")
        assert result.content == data


async def test_a_result_that_is_not_there_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator:
        coordinator.say_hello(1)
        _, task = await coordinator.submit()
        end = Ended(TaskSeq(1), 1, None, value=b"\2a name", blobs=(digest_of(b"lost"),))
        coordinator.put(ReportArrived(SessionId(1), Report(1, ended=[end])))
        _, ended = await coordinator.ask("GET", f"/api/v1/tasks/{task['id']}?wait=10")
        assert ended["state"] == "completed"
        status, refusal = await coordinator.ask("GET", f"/api/v1/tasks/{task['id']}/result")
        assert (status, refusal["code"]) == (410, "result_gone")


async def test_a_disk_without_room_for_a_blob_refuses_its_task_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator:
        function = await put(coordinator, b"function")
        with monkeypatch.context() as failing:
            failing.setattr("rota.store.blob_files.os.fdatasync", fails_with(errno.EDQUOT))
            status, refusal = await submit(coordinator, function)
        assert (status, refusal["code"]) == (503, "store_unavailable")
        await wait_until_async(coordinator.is_ready, what="the coordinator to serve again")
        status, refusal = await submit(coordinator, function)
        assert (status, refusal["code"]) == (400, "blob_missing"), "its bytes may not have reached the disk"
        await put(coordinator, b"function")
        assert (await submit(coordinator, function))[0] == 201


async def test_a_disk_that_fails_under_a_blob_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with inner_coordinator(tmp_path, monkeypatch) as coordinator:
        function = await put(coordinator, b"function")
        with monkeypatch.context() as failing:
            failing.setattr("rota.store.blob_files.os.fdatasync", fails_with(errno.EIO))
            assert (await submit(coordinator, function))[0] == 503
            with pytest.raises(StoreBroken):
                await asyncio.wait_for(coordinator.running, 5.0)


def fails_with(number: int) -> Any:
    def fail(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    return fail


# Real processes


def put_over_http(cluster: Cluster, data: bytes) -> str:
    answer = httpx.put(f"{cluster.url}/api/v1/blobs/{digest_of(data)}", content=data, timeout=20.0)
    assert answer.status_code in (200, 201), answer.text
    return digest_of(data)


def stored(cluster: Cluster, digest: str) -> bytes | None:
    answer = httpx.get(f"{cluster.url}/api/v1/blobs/{digest}", timeout=20.0)
    return answer.content if answer.status_code == 200 else None


def test_a_kill_between_putting_and_naming_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.start_coordinator()
        function, argument = put_over_http(cluster, b"function"), put_over_http(cluster, os.urandom(MIB))
        cluster.coordinator.kill()
        cluster.start_coordinator()
        assert stored(cluster, function) == b"function"
        task = cluster.client.submit({"function": function, "blobs": [argument]})
        cluster.coordinator.kill()
        cluster.start_coordinator()
        assert cluster.client.task(task["id"])["state"] == "pending"
        for digest in (function, argument):
            assert is_marked_durable((cluster.state_dir / "blobs" / digest[:2] / digest).stat())
            content = stored(cluster, digest)
            assert content is not None
            assert digest_of(content) == digest


def test_a_kill_in_the_middle_of_an_upload_leaves_nothing_under_its_name(tmp_path: Path) -> None:
    data = os.urandom(4 * MIB)
    path = f"/api/v1/blobs/{digest_of(data)}"
    with Cluster(tmp_path) as cluster:
        cluster.start_coordinator()
        incoming = cluster.state_dir / "blobs" / "incoming"
        with socket.create_connection(("127.0.0.1", cluster.port)) as connection:
            head = f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
            connection.sendall(head.encode() + data[: 3 * MIB])
            wait_until(lambda: any(file.stat().st_size for file in incoming.iterdir()), what="bytes of the upload")
            cluster.coordinator.kill()
        cluster.start_coordinator()
        assert stored(cluster, digest_of(data)) is None
        assert put_over_http(cluster, data) == digest_of(data)
        assert stored(cluster, digest_of(data)) == data


def test_a_full_disk_refuses_blobs_and_keeps_those_that_it_has(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_mib=8) as disk, Cluster(tmp_path, state_dir=disk / "state") as cluster:
        cluster.start_coordinator()
        kept = put_over_http(cluster, b"function")
        ballast = fill(disk)
        refused = httpx.put(f"{cluster.url}/api/v1/blobs/{digest_of(bytes(MIB))}", content=bytes(MIB), timeout=20.0)
        assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
        assert stored(cluster, kept) == b"function"
        assert cluster.client.is_ready(), "tasks may have room where a blob has none"
        ballast.unlink()
        assert stored(cluster, put_over_http(cluster, bytes(MIB))) == bytes(MIB)


def test_a_coordinator_without_a_disk_keeps_blobs_while_it_runs(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--store=memory") as cluster:
        coordinator = cluster.start_coordinator()
        function = put_over_http(cluster, b"function")
        assert cluster.client.submit({"function": function})["state"] == "pending"
        assert not (cluster.state_dir / "blobs").exists()
        coordinator.stop()

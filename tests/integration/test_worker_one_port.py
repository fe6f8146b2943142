"""A worker on gRPC that can't reach the HTTP port at all, and blobs that are cut off: in real processes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from rota import Client
from tests.support.processes import RunningProcess
from tests.support.real_cluster import Cluster
from tests.support.waiting import wait_until

MIB: Final = 1 << 20

NOBODY: Final = "--server=http://127.0.0.1:9"
"""For a worker: nothing listens there."""

ELSEWHERE: Final = "from rota.worker import blobs; blobs._is_ours = lambda home: False"
"""For a worker that takes itself for one on another machine than the coordinator's: everything is carried."""

HELD: Final = """
import asyncio, pathlib
from rota.wire.grpc import blobs as calls
from rota.worker import blobs
blobs._is_ours = lambda home: False
async def hold(way, pieces):
    asked = pathlib.Path({folder!r}, way)
    async for piece in pieces:
        yield piece
        if not asked.exists():
            asked.touch()
            while not asked.with_suffix(".go").exists():
                await asyncio.sleep(0.01)
get, put = calls.BlobClient.get, calls.BlobClient.put
calls.BlobClient.get = lambda self, digest: hold("get", get(self, digest))
calls.BlobClient.put = lambda self, digest, size, *, pieces: put(self, digest, size, pieces=hold("put", pieces))
"""
"""The same, for one whose first blob each way stands still after its first piece until a test lets it go on."""


WITHOUT_BLOBS: Final = """
from rota.coordinator.grpc import contracts
made = contracts.public_contracts
def made_before(*given, **named):
    return [contract for contract in made(*given, **named) if contract.descriptor.name != "Blobs"]
contracts.public_contracts = made_before
"""
"""For a coordinator that is older than its workers."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, transport="grpc", token="s3cret-token") as found:
        found.start_coordinator()
        yield found


def start_worker(cluster: Cluster, name: str, *, prelude: str) -> RunningProcess:
    options = NOBODY, f"--cache-dir={cluster.folder}/cache-{name}", "--resources=cpu=4000"
    return cluster.start_worker(name, *options, prelude=prelude)


def submit_copy(cluster: Cluster, content: bytes, **fields: object) -> str:
    """Submit a task that brings back the file that goes with it, with some bytes before it."""
    path = cluster.folder / "in"
    path.write_bytes(content)
    files = cluster.client.files.ship({"in": path})
    spec = {"shell": "(echo copy; cat in) > out", "files": files, "outputs": ["out"], **fields}
    return str(cluster.client.submit(spec)["id"])


def left_by(cluster: Cluster, task_id: str) -> bytes:
    """What such a task left."""
    folder = cluster.folder / f"fetched-{task_id}"
    cluster.client.files.fetch(cluster.client.files.outputs(task_id), folder)
    return (folder / "out").read_bytes()


def incoming(cluster: Cluster) -> list[str]:
    return os.listdir(cluster.state_dir / "blobs" / "incoming")


def test_a_worker_needs_no_other_port_than_that_of_grpc(cluster: Cluster) -> None:
    start_worker(cluster, "w1", prelude=ELSEWHERE)
    content = os.urandom(3 * MIB)
    task_id = submit_copy(cluster, content)
    snippet = cluster.client.submit({"kind": "python", "code": "print(6 * 7)"})["id"]
    with Client(cluster.url, token="s3cret-token") as client:
        assert client.submit(bytes.upper, b"a" * MIB).result(20.0) == b"A" * MIB
        assert client.submit(len, content).result(20.0) == len(content)
    assert cluster.wait_for_end(task_id)["state"] == "completed"
    assert left_by(cluster, task_id) == b"copy\n" + content
    assert cluster.wait_for_end(snippet)["state"] == "completed"
    counted = cluster.client.metrics()
    for call in ("GetBlob", "PutBlob"):
        assert f'rota_grpc_calls_total{{method="rota.v1.Blobs.{call}",status="OK"}}' in counted


def test_a_coordinator_killed_in_the_middle_of_blobs_is_asked_and_brought_them_again(cluster: Cluster) -> None:
    start_worker(cluster, "w1", prelude=HELD.format(folder=str(cluster.folder)))
    content = os.urandom(3 * MIB)
    ids = [
        str(cluster.client.submit({"shell": f"head -c {3 * MIB} /dev/zero > out", "outputs": ["out"]})["id"]),
        submit_copy(cluster, content),
    ]
    for way in ("put", "get"):
        wait_until((cluster.folder / way).exists, what=f"a blob to be on its way by {way}")
    cluster.coordinator.kill()
    for way in ("put", "get"):
        (cluster.folder / f"{way}.go").touch()
    cluster.start_coordinator("--grace=20s")  # its worker may be slow to find it, on a busy machine
    for task_id, left in zip(ids, (bytes(3 * MIB), b"copy\n" + content), strict=True):
        task = cluster.wait_for_end(task_id)
        assert (task["state"], task["attempt"]) == ("completed", 1), cluster.client.attempts(task_id)
        assert left_by(cluster, task_id) == left
    assert not any(cluster.folder.glob("cache-w1/blobs-*/incoming/*"))


def test_a_worker_killed_in_the_middle_of_a_blob_leaves_nothing_of_it(cluster: Cluster) -> None:
    first = start_worker(cluster, "w1", prelude=HELD.format(folder=str(cluster.folder)))
    (cluster.folder / "get.go").touch()
    content = os.urandom(3 * MIB)
    task_id = submit_copy(cluster, content)
    wait_until((cluster.folder / "put").exists, what="a blob to be on its way")
    wait_until(lambda: incoming(cluster), what="a part of it to come")
    first.kill()
    wait_until(lambda: not incoming(cluster), what="that part to be removed")
    start_worker(cluster, "w2", prelude=ELSEWHERE)
    task = cluster.wait_for_end(task_id)
    assert (task["state"], task["losses_used"]) == ("completed", 1)
    [output] = cluster.client.files.outputs(task_id)
    assert output.digest == hashlib.sha256(b"copy\n" + content).hexdigest()


def test_a_coordinator_without_the_service_is_named_by_the_tasks_that_need_it(tmp_path: Path) -> None:
    with Cluster(tmp_path, transport="grpc") as cluster:
        cluster.start_coordinator(prelude=WITHOUT_BLOBS)
        worker = start_worker(cluster, "w1", prelude=ELSEWHERE)
        failed = cluster.wait_for_end(submit_copy(cluster, b"content", losses=0))
        assert (failed["state"], failed["cause"]) == ("failed", "agent-error")
        assert "has no rota.v1.Blobs" in failed["message"]
        assert "update the coordinator" in failed["message"]
        worker.wait_for_line(r"has no rota\.v1\.Blobs")
        assert cluster.wait_for_end(cluster.client.submit({"shell": "true"})["id"])["state"] == "completed"

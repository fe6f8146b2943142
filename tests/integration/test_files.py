"""Files of tasks on a real cluster: there and back, through kills and restarts of everybody on the way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from rota.client.http import Json
from rota.core.errors import BadRequest, BadSpec, Conflict, Gone, RotaError
from tests.support.processes import RunningProcess
from tests.support.real_cluster import Cluster
from tests.support.waiting import wait_until

ELSEWHERE: Final = "from rota.worker import blobs; blobs._is_ours = lambda home: False"
"""For a worker that takes itself for one on another machine than the coordinator's: everything is carried."""

HELD: Final = """
import asyncio, pathlib
from rota.worker import blobs
blobs._is_ours = lambda home: False
upload = blobs.BlobShelf.upload
async def held(self, digest):
    pathlib.Path({folder!r}, "asked").touch()
    while not pathlib.Path({folder!r}, "go").exists():
        await asyncio.sleep(0.01)
    await upload(self, digest)
blobs.BlobShelf.upload = held
"""
"""The same, for one whose line to the coordinator is so slow that a test can do something meanwhile."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path) as found:
        found.start_coordinator()
        yield found


def start_worker(cluster: Cluster, name: str = "w1", *, prelude: str = "") -> RunningProcess:
    options = f"--cache-dir={cluster.folder}/cache-{name}", "--resources=cpu=4000"
    return cluster.start_worker(name, *options, prelude=prelude)


def make_file(folder: Path, name: str, content: bytes, *, mode: int = 0o644) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path


def submit(cluster: Cluster, shell: str, *, files: dict[str, Path] | None = None, **fields: object) -> str:
    shipped = cluster.client.files.ship(files or {})
    return str(cluster.client.submit({"shell": shell, "files": shipped, **fields})["id"])


def left_by(cluster: Cluster, task: Json) -> dict[str, bytes]:
    """What a task left, fetched into a new folder."""
    folder = cluster.folder / f"fetched-{task['id']}"
    cluster.client.files.fetch(cluster.client.files.outputs(task["id"]), folder)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def scratch_left(cluster: Cluster) -> list[Path]:
    return [path for path in cluster.folder.glob("cache-*/scratch-*/*") if path.name != "lock"]


@pytest.mark.parametrize("prelude", ["", ELSEWHERE], ids=["one-machine", "elsewhere"])
def test_files_go_there_and_come_back(cluster: Cluster, prelude: str) -> None:
    start_worker(cluster, prelude=prelude)
    files = {
        "run.sh": make_file(cluster.folder, "my/run.sh", b'#!/bin/sh\ncp "$1" "out/copy of $1"\n', mode=0o755),
        "Ma\u0308rz \u65e5 = 1.csv": make_file(cluster.folder, "in.csv", os.urandom(300_000)),
        "out/empty": make_file(cluster.folder, "empty", b""),
    }
    task_id = submit(cluster, "./run.sh Ma*; chmod +x out/copy*", files=files, outputs=["out", "Ma*"])
    task = cluster.wait_for_end(task_id)
    assert (task["state"], task["message"]) == ("completed", "no new file matched 'Ma*'"), task
    content = files["Ma\u0308rz \u65e5 = 1.csv"].read_bytes()
    assert left_by(cluster, task) == {"out/copy of Ma\u0308rz \u65e5 = 1.csv": content, "out/empty": b""}
    fetched = next((cluster.folder / f"fetched-{task['id']}").glob("out/copy*"))
    assert os.access(fetched, os.X_OK)
    assert scratch_left(cluster) == []
    again = cluster.wait_for_end(submit(cluster, "cat Ma* | wc -c", files=files))
    assert (again["state"], again["stdout_bytes"]) == ("completed", len("300000\n"))


def test_a_worker_killed_between_the_end_and_the_upload_costs_an_attempt_and_nothing_else(cluster: Cluster) -> None:
    first = start_worker(cluster, "w1", prelude=HELD.format(folder=str(cluster.folder)))
    task_id = submit(cluster, "echo $ROTA_ATTEMPT > out; echo more > more", outputs=["*"])
    wait_until((cluster.folder / "asked").exists, what="the program to end and its outputs to be on their way")
    assert cluster.client.task(task_id)["state"] in ("assigned", "running"), "an end without its outputs would be a lie"
    with pytest.raises(Conflict):
        cluster.client.files.outputs(task_id)
    first.kill()
    start_worker(cluster, "w2", prelude=ELSEWHERE)
    task = cluster.wait_for_end(task_id)
    assert (task["state"], task["attempt"], task["losses_used"]) == ("completed", 2, 1)
    assert left_by(cluster, task) == {"out": b"2\n", "more": b"more\n"}


def test_a_coordinator_killed_before_the_upload_finds_the_outputs_when_it_is_back(cluster: Cluster) -> None:
    start_worker(cluster, prelude=HELD.format(folder=str(cluster.folder)))
    files = {"in": make_file(cluster.folder, "in", b"kept\n")}
    task_id = submit(cluster, "cp in out", files=files, outputs=["out"])
    wait_until((cluster.folder / "asked").exists, what="the outputs to be on their way")
    cluster.coordinator.kill()
    (cluster.folder / "go").touch()
    cluster.start_coordinator()
    task = cluster.wait_for_end(task_id)
    assert (task["state"], task["attempt"]) == ("completed", 1)
    assert left_by(cluster, task) == {"out": b"kept\n"}


def test_a_coordinator_killed_at_any_time_keeps_files_and_outputs(cluster: Cluster) -> None:
    files = {"in": make_file(cluster.folder, "in", b"input\n")}
    task_id = submit(cluster, "cat in > out", files=files, outputs=["out"])
    cluster.coordinator.kill()  # with the task on record, and its file
    cluster.start_coordinator()
    start_worker(cluster, prelude=ELSEWHERE)
    task = cluster.wait_for_end(task_id)
    cluster.coordinator.kill()  # with its end on record, and its outputs
    cluster.start_coordinator()
    assert left_by(cluster, task) == {"out": b"input\n"}


def test_a_task_that_is_cancelled_while_its_outputs_are_on_their_way_is_cancelled(cluster: Cluster) -> None:
    start_worker(cluster, prelude=HELD.format(folder=str(cluster.folder)))
    task_id = submit(cluster, "echo > out", outputs=["out"])
    wait_until((cluster.folder / "asked").exists, what="the outputs to be on their way")
    cluster.client.cancel(task_id)
    assert cluster.wait_for_end(task_id)["state"] == "cancelled"
    assert cluster.client.files.outputs(task_id) == []


def test_a_retry_has_the_files_again_and_forgets_what_the_attempt_before_left(cluster: Cluster) -> None:
    start_worker(cluster)
    files = {"in": make_file(cluster.folder, "in", b"input\n")}
    shell = "echo $ROTA_ATTEMPT > out; test $ROTA_ATTEMPT = 2"
    task_id = submit(cluster, f"cat in && {shell}", files=files, outputs=["out"])
    failed = cluster.wait_for_end(task_id)
    assert (failed["state"], left_by(cluster, failed)) == ("failed", {"out": b"1\n"})
    cluster.client.retry(task_id)
    task = cluster.wait_for_end(task_id)
    assert (task["state"], [output["name"] for output in task["output_files"]]) == ("completed", ["out"])
    [output] = cluster.client.files.outputs(task_id)
    assert output.digest == hashlib.sha256(b"2\n").hexdigest()


def blob_path(cluster: Cluster, content: bytes) -> Path:
    digest = hashlib.sha256(content).hexdigest()
    return cluster.state_dir / "blobs" / digest[:2] / digest


def test_what_is_no_longer_kept_is_said(cluster: Cluster) -> None:
    start_worker(cluster)
    files = {"in": make_file(cluster.folder, "in", b"input\n")}
    task_id = submit(cluster, "cp in out; echo >> out; exit 1", files=files, outputs=["out"])
    cluster.wait_for_end(task_id)
    outputs = cluster.client.files.outputs(task_id)
    for content in (b"input\n", b"input\n\n"):
        blob_path(cluster, content).unlink()
    with pytest.raises(Gone, match="'out' is no longer kept"):
        cluster.client.files.fetch(outputs, cluster.folder / "to")
    assert not any((cluster.folder / "to").iterdir())
    cluster.coordinator.kill()  # else what it has seen is taken to be there for a while
    cluster.start_coordinator()
    with pytest.raises(Conflict, match="a file is no longer kept"):
        cluster.client.retry(task_id)


def test_a_file_is_sent_once_and_what_is_sent_is_what_is_named(cluster: Cluster) -> None:
    path = make_file(cluster.folder, "in", b"before")
    first = cluster.client.files.ship({"in": path})
    stored = blob_path(cluster, b"before").stat()
    assert cluster.client.files.ship({"other": path, "same": path}) == {"other": first["in"], "same": first["in"]}
    assert blob_path(cluster, b"before").stat().st_ino == stored.st_ino
    make_file(cluster.folder, "in", b"after")
    assert cluster.client.files.ship({"in": path}) == {"in": hashlib.sha256(b"after").hexdigest()}


def test_bad_files_are_refused_with_the_reason(cluster: Cluster) -> None:
    client = cluster.client
    missing = "ab" * 32
    with pytest.raises(BadRequest, match=f"there is no blob {missing}") as caught:
        client.submit({"shell": "true", "files": {"a": missing}})
    assert caught.value.code == "blob_missing"
    with pytest.raises(BadSpec, match=r"outputs: '\.\./\.\./etc/passwd' has a part '\.\.'"):
        client.submit({"shell": "true", "outputs": ["../../etc/passwd"]})
    folder = cluster.folder / "many"
    for number in range(65):
        make_file(folder, str(number), b"")
    (cluster.folder / "hollow").mkdir()
    os.mkfifo(cluster.folder / "pipe")
    for path, says in {
        "nowhere": "can't read .*/nowhere: No such file",
        "pipe": "is no regular file",
        "many": "has more than 64 files in it: pack them into one archive",
        "hollow": "is an empty folder",
    }.items():
        with pytest.raises(RotaError, match=says):
            client.files.ship({"a": cluster.folder / path})
    make_file(cluster.folder / "one", "b", b"of the folder")
    with pytest.raises(RotaError, match=r"/one/b and .*/two would both be 'a/b'"):
        client.files.ship({"a": cluster.folder / "one", "a/b": make_file(cluster.folder, "two", b"by itself")})
    with pytest.raises(RotaError, match=r"the name of a file, '\.\./a', has a part"):
        client.files.ship({"../a": make_file(cluster.folder, "in", b"")})
    with (cluster.folder / "sparse").open("wb") as file:
        file.truncate(257 << 20)
    with pytest.raises(RotaError, match="an object store such as S3"):
        client.files.ship({"a": cluster.folder / "sparse"})
    assert cluster.tasks() == {}

"""Files into scratch directories and out of them through the pool, in real processes; blobs at home or elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rota.core.model import AttemptKey, Cause, InputFile, LaneId, TaskId, TaskSeq
from rota.core.protocol import BlobHome, Ended, Mark, OutputChunk, Started
from rota.core.spec import TaskSpec, encode_spec
from rota.worker.blobs import BlobShelf
from rota.worker.cache import CacheDir
from rota.worker.http_transfer import HttpTransfer
from rota.worker.scratch import ScratchFolder
from rota.worker.slots import control
from rota.worker.slots.base import Stock, Work
from rota.worker.slots.pool import SlotPool
from tests.integration.test_slots_crash import GIVES_UP_SOON, pids_in
from tests.support.blob_server import BlobServer, running_blob_server
from tests.support.disks import small_disk
from tests.support.tracing import traced
from tests.support.waiting import wait_until_async

Files = Mapping[str, bytes | str]


class Bench:
    """A pool with room for files, and all that it said. Blobs are at home unless there is a server."""

    def __init__(self, folder: Path, *, server: BlobServer | None = None, scratch_on: Path | None = None) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        (self.home / "probe").write_text("secret")
        self.cache = CacheDir(scratch_on or folder / "cache")
        self.server = server
        transfer = HttpTransfer(server.url if server is not None else "http://127.0.0.1:9", token=None, ca_file=None)
        self.blobs = BlobShelf(cache=self.cache, bytes_max=1 << 30, transfer=transfer)
        self.pool = SlotPool(
            events=self, worker_id="w1", grace_s=0.5, stock=Stock(self.blobs, None, ScratchFolder(self.cache))
        )
        self.blobs.protect(self.pool.blobs_in_use)
        if server is None:
            self.blobs.use_home(BlobHome(str(self.home), "probe", "secret"))
        self.ends: dict[AttemptKey, Ended] = {}
        self.may_lose_slots = False
        self._last = 0

    def on_events(self, started: list[Started], ended: list[Ended], output: list[OutputChunk]) -> None:
        for end in ended:
            key = (end.task, end.attempt)
            assert key not in self.ends, f"{key} ended twice"
            self.ends[key] = end

    def on_marks(self, marks: list[Mark]) -> None:
        raise AssertionError(marks)

    def on_quarantined(self, lane: LaneId, message: str) -> None:
        assert self.may_lose_slots, message

    def put(self, content: bytes) -> str:
        """A blob of the coordinator's."""
        digest = hashlib.sha256(content).hexdigest()
        if self.server is not None:
            self.server.blobs[digest] = content
        else:
            path = self.home / digest[:2] / digest
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        return digest

    def submit(
        self, shell: str | None = None, *, lane: int = 1, files: Files | None = None, **fields: Any
    ) -> AttemptKey:
        """Run a line, or what the fields say. ``files`` are contents, or digests of what nobody has put there."""
        self._last += 1
        spec = TaskSpec(
            shell=shell, files={name: self._named(given) for name, given in (files or {}).items()}, **fields
        )
        self.pool.run([Work((TaskSeq(self._last), 1), LaneId(lane), TaskId(f"t{self._last}"), encode_spec(spec))])
        return TaskSeq(self._last), 1

    def _named(self, given: bytes | str) -> InputFile:
        if isinstance(given, str):
            return InputFile(given)
        return InputFile(self.put(given), executable=given.startswith(b"#!"))

    async def end_of(self, key: AttemptKey) -> Ended:
        await wait_until_async(lambda: key in self.ends, what=f"the end of {key}", timeout_s=60.0)
        return self.ends[key]

    async def run(self, shell: str | None = None, **options: Any) -> Ended:
        return await self.end_of(self.submit(shell, **options))

    def left(self, end: Ended) -> dict[str, bytes]:
        """What an attempt left, as the coordinator has it."""
        return {output.name: self.content(output.digest) for output in end.outputs}

    def content(self, digest: str) -> bytes:
        if self.server is not None:
            return self.server.blobs[digest]
        return (self.home / digest[:2] / digest).read_bytes()

    def scratch_directories(self) -> list[str]:
        return [path.name for path in self.cache.path.glob("scratch-*/*") if path.name != "lock"]


@asynccontextmanager
async def running(folder: Path, **options: Any) -> AsyncIterator[Bench]:
    bench = Bench(folder, **options)
    await bench.pool.start()
    try:
        yield bench
    finally:
        await bench.pool.close(kill=True)
        await bench.blobs.close()
        bench.cache.close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running(tmp_path) as found:
        yield found


@pytest.fixture
def server() -> Any:
    with running_blob_server() as found:
        yield found


FILES: Files = {
    "run.sh": b'#!/bin/sh\ntr a-z A-Z < "$1"\n',
    "data/in.csv": b"a,b\n",
    "Ma\u0308rz \u65e5.txt": b"odd",
    "empty": b"",
}


async def test_files_are_there_as_they_were_and_the_directory_goes(bench: Bench) -> None:
    end = await bench.run("./run.sh data/in.csv; cat Ma*; wc -c < empty; ls -l data/in.csv | cut -c1-10", files=FILES)
    assert (end.cause, end.stdout) == (None, b"A,B\nodd0\n-rw-------\n"), end
    assert bench.scratch_directories() == []


async def test_a_task_may_change_its_copy_and_nobody_else_sees_it(bench: Bench) -> None:
    files = {"in.csv": b"before\n"}
    first = await bench.run("echo after > in.csv; rm -f other; cat in.csv", files=files, outputs=["*"])
    assert bench.left(first) == {"in.csv": b"after\n"}
    second = await bench.run("cat in.csv", files=files)
    assert second.stdout == b"before\n"


async def test_outputs_are_kept_as_blobs_of_the_home(bench: Bench) -> None:
    end = await bench.run(
        "mkdir -p out/deep; echo 1 > out/a.csv; echo 2 > out/deep/b.csv; echo no > c.txt; chmod +x out/a.csv",
        outputs=["out/**"],
    )
    assert (end.cause, end.message) == (None, None)
    assert bench.left(end) == {"out/a.csv": b"1\n", "out/deep/b.csv": b"2\n"}
    assert [output.executable for output in end.outputs] == [True, False]
    assert not list((bench.home / "incoming").iterdir())


async def test_what_a_failed_or_timed_out_attempt_left_is_kept(bench: Bench) -> None:
    end = await bench.run("echo half > part; exit 3", outputs=["part", "whole"])
    assert (end.cause, end.exit_code, end.message) == (Cause.EXIT, 3, "no file matched 'whole'")
    assert bench.left(end) == {"part": b"half\n"}
    late = await bench.run("echo half > part; exec sleep 60", outputs=["part"], timeout=0.3)
    assert (late.cause, bench.left(late)) == (Cause.TIMEOUT, {"part": b"half\n"})


async def test_nothing_is_kept_before_all_of_the_attempt_is_gone(bench: Bench) -> None:
    """What still runs behind the main process is ended first, so nobody writes to what is read."""
    end = await bench.run("(while :; do echo more >> log; done) & sleep 0.2; echo done > result", outputs=["*"])
    kept = bench.left(end)
    assert kept["result"] == b"done\n"
    assert len(kept["log"]) == next(output.bytes for output in end.outputs if output.name == "log")


@pytest.mark.slow
async def test_where_something_can_t_be_ended_nothing_is_read_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_PROGRAM", GIVES_UP_SOON)
    pids = tmp_path / "pids"
    pids.mkdir()
    leaving = f"sh -c ': > {pids}/$$; exec sleep 60' & while [ ! -e {pids}/go ]; do sleep 0.01; done; echo > out"
    async with running(tmp_path) as bench:
        bench.may_lose_slots = True
        key = bench.submit(leaving, outputs=["out"])
        await wait_until_async(lambda: any(pids.iterdir()), what="a pid")
        (victim,) = pids_in(pids)
        with traced(victim):
            (pids / "go").touch()
            end = await bench.end_of(key)
    assert (end.cause, end.exit_code, end.outputs) == (Cause.AGENT_ERROR, 0, ())
    assert "could not be killed" in (end.message or "")
    assert (end.message or "").endswith("; its outputs were not kept")


async def test_a_snippet_has_files_beside_its_code_and_its_code_is_no_output(bench: Bench) -> None:
    code = "import helper, pathlib; pathlib.Path('out').write_text(helper.word)"
    end = await bench.run(kind="python", code=code, files={"helper.py": b"word = 'there'"}, outputs=["*"])
    assert (end.cause, bench.left(end)) == (None, {"out": b"there"})
    clash = await bench.run(kind="python", code=code, files={"task.py": b"other"})
    assert clash.cause is Cause.LAUNCH_ERROR
    assert "'task.py' can't be among its files" in (clash.message or "")


@pytest.mark.parametrize(
    "files", [{"../x": b"x"}, {"/tmp/x": b"x"}, {"a/../../x": b"x"}, {"a\\b": b"x"}, {"a": "../../probe"}]
)
async def test_a_worker_believes_no_name(bench: Bench, files: Files) -> None:
    """The coordinator has checked it, and this is not the place to find out that it has not."""
    end = await bench.run("true", files=files)
    assert end.cause is Cause.LAUNCH_ERROR
    assert bench.scratch_directories() == []


async def test_elsewhere_files_are_carried_once_and_outputs_before_the_end(tmp_path: Path, server: BlobServer) -> None:
    async with running(tmp_path, server=server) as bench:
        files, out = {"in": b"x" * 100_000}, ["out"]
        keys = [bench.submit("cat in >> out", files=files, outputs=out, lane=lane) for lane in (1, 2)]
        for key in keys:
            assert bench.left(await bench.end_of(key)) == {"out": b"x" * 100_000}
        assert server.asked["GET"] == 1
        assert bench.pool.blobs_in_use() == set()


async def test_an_end_waits_for_its_outputs_and_holds_nobody_up(tmp_path: Path, server: BlobServer) -> None:
    async with running(tmp_path, server=server) as bench:
        server.status = 503
        key = bench.submit("echo kept > out", outputs=["out"])
        assert (await bench.run("echo next")).stdout == b"next\n"
        assert key not in bench.ends
        assert len(bench.pool.blobs_in_use()) == 1
        server.status = None
        assert bench.left(await bench.end_of(key)) == {"out": b"kept\n"}


async def test_outputs_that_are_refused_fail_a_success_and_not_the_reason_of_a_failure(
    tmp_path: Path, server: BlobServer
) -> None:
    async with running(tmp_path, server=server) as bench:
        server.status = 413
        end = await bench.run("echo kept > out", outputs=["out"])
        assert (end.cause, end.outputs) == (Cause.AGENT_ERROR, ())
        assert "its outputs could not be handed over" in (end.message or "")
        failed = await bench.run("echo kept > out; exit 7", outputs=["out"])
        assert (failed.cause, failed.exit_code, failed.outputs) == (Cause.EXIT, 7, ())
        assert "its outputs could not be handed over" in (failed.message or "")


async def test_a_stop_gives_up_outputs_that_are_on_their_way(tmp_path: Path, server: BlobServer) -> None:
    async with running(tmp_path, server=server) as bench:
        server.status = 503
        key = bench.submit("echo kept > out", outputs=["out"])
        await wait_until_async(bench.pool.blobs_in_use, what="the hand-over to begin")
        bench.pool.stop(key, cause=Cause.CANCELLED, grace_s=0.1)
        end = await bench.end_of(key)
        assert (end.cause, end.outputs) == (Cause.CANCELLED, ())


async def test_a_file_that_the_coordinator_no_longer_has_is_a_launch_error(tmp_path: Path, server: BlobServer) -> None:
    async with running(tmp_path, server=server) as bench:
        digest = hashlib.sha256(b"gone").hexdigest()
        end = await bench.run("true", files={"a": digest})
        assert end.cause is Cause.LAUNCH_ERROR
        assert f"no longer has blob {digest}" in (end.message or "")


async def test_what_comes_damaged_is_fetched_again(tmp_path: Path, server: BlobServer) -> None:
    async with running(tmp_path, server=server) as bench:
        server.spoils_next = True
        assert (await bench.run("cat a", files={"a": b"right"})).stdout == b"right"


@pytest.mark.xdist_group("disk")
async def test_a_full_disk_under_the_scratch_directory_is_the_machines_fault(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_mib=2) as disk:
        async with running(tmp_path, scratch_on=disk / "cache") as bench:
            end = await bench.run("true", files={"large": b"x" * (4 << 20)})
            assert end.cause is Cause.AGENT_ERROR
            assert "the file 'large' could not be put there: No space left on device" in (end.message or "")
            assert bench.scratch_directories() == []
            # And where the task itself fills it, that is what the task is told.
            own = await bench.run("head -c 4000000 /dev/zero > big", outputs=["big"])
            assert (own.cause, own.exit_code) == (Cause.EXIT, 1)


async def test_a_worker_without_scratch_directories_says_so(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.pool = SlotPool(events=bench, worker_id="w1")
    await bench.pool.start()
    try:
        end = await bench.run("true", outputs=["a"])
        assert (end.cause, end.message) == (Cause.LAUNCH_ERROR, "this worker has no place for files")
    finally:
        await bench.pool.close(kill=True)
        bench.cache.close()

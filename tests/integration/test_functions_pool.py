"""Functions from spec to result through the pool, in real processes."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from rota.core.model import AttemptKey, Cause, LaneId, TaskId, TaskSeq
from rota.core.protocol import BlobHome, Ended, Mark, OutputChunk, Started
from rota.core.spec import TaskSpec, encode_spec
from rota.functions.context import current
from rota.functions.envelope import blob_of, pack_blob
from rota.functions.pickling import dump_call, dump_function, load_value
from rota.worker.blobs import BlobShelf
from rota.worker.cache import CacheDir
from rota.worker.environments import EnvironmentStore
from rota.worker.http_transfer import HttpTransfer
from rota.worker.slots.base import Stock, Work
from rota.worker.slots.pool import SlotPool
from tests.support.blob_server import BlobServer, running_blob_server
from tests.support.waiting import wait_until_async
from tests.support.wheels import make_wheel

LARGE = 1 << 20
MEDIUM = 100 << 10
"""Too much for a result that travels inline, but not for arguments that do."""


class Bench:
    """A pool with functions, and all that it said. Blobs are at home unless there is a server."""

    def __init__(self, folder: Path, *, server: BlobServer | None = None) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        (self.home / "incoming").mkdir()
        (self.home / "probe").write_text("secret")
        self.cache = CacheDir(folder / "cache")
        url = server.url if server is not None else "http://127.0.0.1:9"
        self.server = server
        self.blobs = BlobShelf(
            cache=self.cache, bytes_max=1 << 30, transfer=HttpTransfer(url, token=None, ca_file=None)
        )
        self.environments = EnvironmentStore(self.cache)
        self.pool = SlotPool(events=self, worker_id="w1", grace_s=0.5, stock=Stock(self.blobs, self.environments))
        self.blobs.protect(self.pool.blobs_in_use)
        if server is None:
            self.blobs.use_home(BlobHome(str(self.home), "probe", "secret"))
        self.ends: dict[AttemptKey, Ended] = {}
        self.order: list[AttemptKey] = []
        self.marks: list[Mark] = []
        self._last = 0

    def on_events(self, started: list[Started], ended: list[Ended], output: list[OutputChunk]) -> None:
        for end in ended:
            key = (end.task, end.attempt)
            assert key not in self.ends, f"{key} ended twice"
            self.ends[key] = end
            self.order.append(key)

    def on_marks(self, marks: list[Mark]) -> None:
        self.marks += marks

    def on_quarantined(self, lane: LaneId, message: str) -> None:
        raise AssertionError(message)

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

    def work(
        self, function: Callable[..., object], *args: object, lane: int = 1, as_blob: bool = False, **fields: Any
    ) -> Work:
        self._last += 1
        envelope = b"".join(dump_call(args, {}))
        if as_blob:
            digest = self.put(envelope)
            fields["blobs"], envelope = [digest], pack_blob(digest, len(envelope))
        spec = TaskSpec(function=self.put(dump_function(function)), args=envelope, **fields)
        return Work((TaskSeq(self._last), 1), LaneId(lane), TaskId(f"t{self._last}"), encode_spec(spec))

    def submit(self, function: Callable[..., object], *args: object, **options: Any) -> AttemptKey:
        work = self.work(function, *args, **options)
        self.pool.run([work])
        return work.key

    async def end_of(self, key: AttemptKey) -> Ended:
        await wait_until_async(lambda: key in self.ends, what=f"the end of {key}", timeout_s=60.0)
        return self.ends[key]

    async def value_of(self, key: AttemptKey) -> Any:
        end = await self.end_of(key)
        assert end.cause is None, end
        blob = blob_of(end.value)
        return load_value(end.value if blob is None else self.content(blob[0]))

    def content(self, digest: str) -> bytes:
        if self.server is not None:
            return self.server.blobs[digest]
        return (self.home / digest[:2] / digest).read_bytes()

    async def result(self, function: Callable[..., object], *args: object, **options: Any) -> Any:
        return await self.value_of(self.submit(function, *args, **options))


@asynccontextmanager
async def running(folder: Path, *, server: BlobServer | None = None) -> AsyncIterator[Bench]:
    bench = Bench(folder, server=server)
    await bench.pool.start()
    try:
        yield bench
    finally:
        bench.environments.close()
        await bench.pool.close(kill=True)
        await bench.blobs.close()
        bench.cache.close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running(tmp_path) as made:
        yield made


@pytest.fixture
def server() -> Iterator[BlobServer]:
    with running_blob_server() as made:
        yield made


def in_main(function: Callable[..., object]) -> Callable[..., object]:
    """As if it came from a script: it travels by value, because no worker can import it."""
    function.__module__ = "__main__"
    return function


@in_main
def double(value: Any) -> Any:
    return value + value


@in_main
def say(text: str) -> int:
    print(text)
    return os.getpid()


KEPT: list[bytes] = []


@in_main
def keep(mib: int) -> None:
    KEPT.append(b"x" * (mib << 20))


@in_main
def variables(*names: str) -> list[str | None]:
    return [os.environ.get(name) for name in names]


@in_main
def wait() -> None:
    time.sleep(60)


@in_main
def progress() -> None:
    current().set_progress(0.5, "half")
    time.sleep(60)


@in_main
def version_of(module: str) -> str:
    return str(importlib.import_module(module).version)


async def test_a_function_returns_its_value(bench: Bench) -> None:
    assert await bench.result(double, 21) == 42
    assert await bench.result(sum, [1, 2, 3]) == 6


async def test_a_long_line_runs_in_order_and_ends_each_once(bench: Bench) -> None:
    works = [bench.work(double, number) for number in range(2000)]
    bench.pool.run(works)
    await bench.end_of(works[-1].key)
    assert bench.order == [work.key for work in works]
    assert [await bench.value_of(work.key) for work in works] == [2 * number for number in range(2000)]


async def test_lanes_run_side_by_side_in_processes_of_their_own(bench: Bench) -> None:
    keys = [bench.submit(say, "x", lane=lane) for lane in (1, 2)]
    pids = {await bench.value_of(key) for key in keys}
    assert len(pids) == 2
    assert bench.ends[keys[0]].stdout == b"x\n"


async def test_programs_and_functions_share_a_worker(bench: Bench) -> None:
    key = bench.submit(double, 1)
    spec = encode_spec(TaskSpec(command=["echo", "hi"]))
    program = Work((TaskSeq(99), 1), LaneId(2), TaskId("p"), spec)
    bench.pool.run([program])
    assert await bench.value_of(key) == 2
    assert (await bench.end_of(program.key)).stdout == b"hi\n"


async def test_what_others_keep_in_memory_is_no_excess_of_the_next(bench: Bench) -> None:
    await bench.result(keep, 200, lane=1)
    await bench.result(time.sleep, 0.3, lane=2, resources={"memory": 150})


async def test_marks_come_while_it_runs(bench: Bench) -> None:
    key = bench.submit(progress)
    await wait_until_async(lambda: bench.marks, what="a mark")
    assert bench.marks == [Mark(*key, 0.5, "half")]


async def test_a_function_has_the_base_environment_and_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROTA_TOKEN", "secret")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    async with running(tmp_path) as bench:
        names = ("ROTA_TOKEN", "PYTHONPATH", "MINE")
        assert await bench.result(variables, *names, env={"MINE": "1"}) == [None, str(tmp_path), "1"]
        assert await bench.result(variables, "MINE") == [None]


async def test_a_stop_ends_what_runs_and_the_next_goes_on(bench: Bench) -> None:
    key, after = bench.submit(wait), bench.submit(double, 4)
    await asyncio.sleep(0)
    bench.pool.stop(key, cause=Cause.CANCELLED, grace_s=0.5)
    assert (await bench.end_of(key)).cause is Cause.CANCELLED
    assert await bench.value_of(after) == 8


async def test_a_function_over_its_time_is_ended(bench: Bench) -> None:
    assert (await bench.end_of(bench.submit(wait, timeout=0.3))).cause is Cause.TIMEOUT


async def test_a_failure_comes_with_what_was_raised(bench: Bench) -> None:
    end = await bench.end_of(bench.submit(double, None))
    assert end.cause is Cause.ERROR
    assert "TypeError" in (end.message or "")
    assert end.value


async def test_large_arguments_and_results_are_files_of_the_home(bench: Bench) -> None:
    key = bench.submit(double, b"x" * LARGE, as_blob=True)
    assert await bench.value_of(key) == b"x" * 2 * LARGE
    (digest,) = bench.ends[key].blobs
    assert (bench.home / digest[:2] / digest).exists()
    assert not list((bench.home / "incoming").iterdir())


async def test_elsewhere_blobs_are_carried(tmp_path: Path, server: BlobServer) -> None:
    async with running(tmp_path, server=server) as bench:
        keys = [bench.submit(double, b"x" * LARGE, as_blob=True, lane=lane) for lane in (1, 2)]
        for key in keys:
            assert await bench.value_of(key) == b"x" * 2 * LARGE
        assert server.asked["GET"] == 2, "the function and its arguments, once each"
        assert await bench.result(double, 2) == 4


async def test_a_result_is_told_when_the_coordinator_has_it(tmp_path: Path, server: BlobServer) -> None:
    async with running(tmp_path, server=server) as bench:
        assert await bench.result(double, 1) == 2
        server.status = 503
        key = bench.submit(double, b"x" * MEDIUM)
        after = bench.submit(double, 3)
        assert await bench.value_of(after) == 6
        assert key not in bench.ends
        server.status = None
        assert await bench.value_of(key) == b"x" * 2 * MEDIUM


async def test_a_function_that_the_coordinator_no_longer_has_can_not_start(tmp_path: Path, server: BlobServer) -> None:
    async with running(tmp_path, server=server) as bench:
        work = bench.work(double, 1)
        server.blobs.clear()
        bench.pool.run([work])
        end = await bench.end_of(work.key)
        assert end.cause is Cause.LAUNCH_ERROR
        assert "no longer has blob" in (end.message or "")


async def test_requirements_are_there_and_only_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    make_wheel(tmp_path, "rota_test_tiny", "1.0")
    make_wheel(tmp_path, "rota_test_tiny", "2.0")
    async with running(tmp_path) as bench:
        keys = [
            bench.submit(version_of, "rota_test_tiny", requirements=["rota_test_tiny==1.0"]),
            bench.submit(version_of, "rota_test_tiny"),
            bench.submit(version_of, "rota_test_tiny", requirements=["rota_test_tiny==2.0"]),
        ]
        assert await bench.value_of(keys[0]) == "1.0"
        assert await bench.value_of(keys[2]) == "2.0"
        without = await bench.end_of(keys[1])
        assert without.cause is Cause.ERROR
        assert "rota_test_tiny" in (without.message or "")
        with capture_logs() as logs:
            unknown = await bench.end_of(bench.submit(double, 1, requirements=["rota_test_unknown"]))
        assert unknown.cause is Cause.LAUNCH_ERROR
        (told,) = (entry for entry in logs if entry["event"] == "no_slots")
        assert told["log_level"] == "warning"  # a sentence, no traceback: nothing is wrong with the worker
        assert "No matching distribution" in (unknown.message or "")


async def test_a_worker_without_functions_has_no_process_for_them(bench: Bench) -> None:
    assert len(_keepers()) == 1
    await bench.result(double, 1)
    assert len(_keepers()) == 2


def _keepers() -> list[psutil.Process]:
    """Those that live of this process, which may have children from other tests besides."""
    children = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in children if child.name() in {"rota-keeper", "rota-keeper-fn"}]


async def test_when_the_keeper_of_functions_dies_the_next_makes_slots(bench: Bench) -> None:
    await bench.result(double, 1)
    for keeper in _keepers():
        keeper.kill()
    # What was in the middle of it may be handed back; a moment later all is well again.
    await wait_until_async(lambda: _succeeds(bench), what="a function in a new slot", timeout_s=60.0)


async def _succeeds(bench: Bench) -> bool:
    return (await bench.end_of(bench.submit(double, 1))).cause is None

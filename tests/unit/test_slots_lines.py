"""What the pool does with functions before a slot has them and after: slots, blobs and environments are played here."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from rota.core.model import AttemptKey, Cause, LaneId, TaskId, TaskSeq
from rota.core.protocol import Ended, Mark, OutputChunk, Started
from rota.core.spec import TaskSpec, encode_spec
from rota.worker.slots import sources
from rota.worker.slots.base import Stock, SuppliesFailed, Work
from rota.worker.slots.frames import decode_orders
from rota.worker.slots.pool import SlotPool
from rota.worker.slots.source import SlotFate
from tests.support.programs import FakePrograms, FakeScratch
from tests.support.waiting import wait_until_async

FUNCTION = "ab" * 32
BLOB = "cd" * 32
OTHER = "ef" * 32


class FakeLink:
    """A slot that notes what it is told."""

    def __init__(self, source: FakeSource, devices: tuple[int, ...]) -> None:
        self.source = source
        self.devices = devices
        self.told: list[tuple[Any, ...]] = []

    def send(self, message: tuple[Any, ...]) -> None:
        self.told.append(message)

    def orders(self) -> list[tuple[Any, ...]]:
        programs = [order for message in self.told if message[0] == "run" for order in message[1]]
        return programs + [
            order for message in self.told if message[0] == "calls" for order in decode_orders(message[1])
        ]

    def report(
        self, *ended: tuple[Any, ...], marks: Sequence[tuple[Any, ...]] = (), trouble: str | None = None
    ) -> None:
        """Say what a slot would say."""
        parts: tuple[Any, ...] = ([], list(ended), [], trouble)
        self.source.events.on_message(
            self.source, self, (*parts, list(marks)) if self.source.kind == "function" else parts
        )

    def die(self, fate: SlotFate) -> None:
        self.source.events.on_slot_closed(self)
        self.source.events.on_slot_lost(self, fate)

    def end(self, *keys: AttemptKey, **fields: Any) -> None:
        self.report(*(ended(key, **fields) for key in keys))


class FakeSource:
    """A keeper that makes such slots."""

    made: list[FakeSource]
    failing: list[Exception]

    def __init__(self, kind: str, *, events: Any, interpreter: str | None = None, **_: Any) -> None:
        self.kind = kind
        self.events = events
        self.interpreter = interpreter
        self.links: list[FakeLink] = []
        self.idle: list[FakeLink] = []
        self.unused_since = float("inf")
        self.is_closed = False
        FakeSource.made.append(self)

    async def start(self) -> None:
        await asyncio.sleep(0)
        if self.kind == "function" and FakeSource.failing:
            raise FakeSource.failing.pop()

    async def close(self) -> None:
        self.is_closed = True

    def take(self, devices: tuple[int, ...] = (), memory_mib: int | None = None) -> FakeLink:
        if self.idle:
            return self.idle.pop()
        self.links.append(FakeLink(self, devices))
        return self.links[-1]

    def give_back(self, link: FakeLink) -> None:
        self.idle.append(link)

    def trim(self) -> None: ...
    def use_grace(self, grace_s: float) -> None: ...


class FakeBlobs:
    """Blobs that are here, and those that come or fail when a test says so."""

    folder = "/blobs"

    def __init__(self) -> None:
        self.here = {FUNCTION}
        self.fetches: dict[str, asyncio.Future[None]] = {}
        self.uploads: dict[str, asyncio.Future[None]] = {}
        self.is_home = True

    def find(self, digest: str) -> str | None:
        return f"/blobs/{digest}" if digest in self.here else None

    async def fetch(self, digest: str) -> None:
        assert digest not in self.fetches, "one download however many wait"
        self.fetches[digest] = asyncio.get_running_loop().create_future()
        await self.fetches[digest]

    def come(self, digest: str) -> None:
        self.here.add(digest)
        self.fetches.pop(digest).set_result(None)

    def must_upload(self, digests: Sequence[str]) -> bool:
        return not self.is_home

    async def upload(self, digest: str) -> None:
        self.uploads[digest] = asyncio.get_running_loop().create_future()
        await self.uploads[digest]


class FakeEnvironments:
    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.answers: dict[tuple[str, ...], asyncio.Future[str]] = defaultdict(asyncio.get_running_loop().create_future)

    async def interpreter(self, requirements: Sequence[str]) -> str:
        self.asked.append(tuple(requirements))
        return await self.answers[tuple(requirements)]


class Bench:
    """A pool among fakes, and all that it said."""

    def __init__(self, **options: Any) -> None:
        self.blobs = FakeBlobs()
        self.environments = FakeEnvironments()
        self.programs, self.scratch = FakePrograms(), FakeScratch()
        stock = Stock(self.blobs, self.environments, self.scratch, self.programs)
        self.pool = SlotPool(events=self, worker_id="w1", stock=stock, **options)
        self.ended: list[tuple[AttemptKey, Cause | None]] = []
        self.ends: dict[AttemptKey, Ended] = {}
        self.tellings = 0
        self.marks: list[Mark] = []
        self._last = 0

    def on_events(self, started: list[Started], ended: list[Ended], output: list[OutputChunk]) -> None:
        self.tellings += 1
        for end in ended:
            key = (end.task, end.attempt)
            assert key not in self.ends, f"{key} ended twice"
            self.ends[key] = end
            self.ended.append((key, end.cause))

    def on_marks(self, marks: list[Mark]) -> None:
        self.marks += marks

    def on_quarantined(self, lane: LaneId, message: str) -> None: ...

    def work(self, *, lane: int = 1, devices: tuple[int, ...] = (), **fields: Any) -> Work:
        self._last += 1
        if not {"function", "command", "code"} & fields.keys():
            fields = {"function": FUNCTION, "args": b"\0args", **fields}
        spec = encode_spec(TaskSpec(**fields))
        return Work((TaskSeq(self._last), 1), LaneId(lane), TaskId(f"t{self._last}"), spec, devices)

    def submit(self, **fields: Any) -> AttemptKey:
        work = self.work(**fields)
        self.pool.run([work])
        return work.key

    @property
    def functions(self) -> list[FakeSource]:
        return [source for source in FakeSource.made if source.kind == "function"]

    async def link(self, *, number: int = 0, source: int = 0) -> FakeLink:
        def look() -> FakeLink | None:
            found = self.functions[source].links if len(self.functions) > source else []
            return found[number] if len(found) > number else None

        link = await wait_until_async(look, what="a slot")
        assert link is not None
        return link

    async def until(self, condition: Callable[[], object], what: str) -> None:
        await wait_until_async(condition, what=what)

    async def end_of(self, key: AttemptKey) -> Ended:
        await self.until(lambda: key in self.ends, f"the end of {key}")
        return self.ends[key]


def ended(key: AttemptKey, *, value: bytes = b"\0x", blobs: tuple[str, ...] = (), cause: str | None = None) -> Any:
    return (*key, cause, None, None, 1.0, 2.0, 0.5, 0.1, 100, 0, 0, b"", b"", None, value, blobs)


def keys_of(orders: Sequence[tuple[Any, ...]]) -> list[AttemptKey]:
    return [(order[0], order[1]) for order in orders]


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    FakeSource.made, FakeSource.failing = [], []
    monkeypatch.setattr(sources, "SlotSource", FakeSource)
    monkeypatch.setattr(sources, "RETRY_PAUSE_S", 0.05)
    made = Bench()
    await made.pool.start()
    yield made
    await made.pool.close(kill=True)
    assert all(source.is_closed for source in FakeSource.made)


# Orders


async def test_a_function_becomes_an_order_with_what_it_needs(bench: Bench) -> None:
    bench.blobs.here.add(BLOB)
    key = bench.submit(
        queue="q",
        timeout=5,
        resources={"memory": 64},
        env={"A": "1"},
        cwd="/tmp",
        blobs=[BLOB],
        name="n",
        labels={"a": "b"},
    )
    link = await bench.link()
    extras = {"blob_dir": "/blobs", "blobs": {BLOB: f"/blobs/{BLOB}"}, "env": {"A": "1"}, "cwd": "/tmp"}
    facts = ("t1", "q", "w1")
    assert link.orders() == [(*key, f"/blobs/{FUNCTION}", b"\0args", 5.0, 64, facts, extras)]


async def test_a_plain_function_has_nothing_but_the_folder_for_its_result(bench: Bench) -> None:
    bench.submit()
    (order,) = (await bench.link()).orders()
    assert order[4:] == (None, None, ("t1", "default", "w1"), {"blob_dir": "/blobs"})


@pytest.mark.parametrize("devices,text", [((1, 3), "1,3"), ((), "")])
async def test_on_a_worker_with_gpus_a_function_sees_only_its_own(
    bench: Bench, devices: tuple[int, ...], text: str
) -> None:
    bench = Bench(has_gpus=True)
    await bench.pool.start()
    bench.submit(devices=devices)
    link = await bench.link()
    assert link.orders()[0][7]["env"] == {"CUDA_VISIBLE_DEVICES": text}
    assert link.devices == devices
    await bench.pool.close(kill=True)


async def test_a_digest_that_is_a_path_is_refused(bench: Bench) -> None:
    key = bench.submit(function="../../etc/passwd")
    end = await bench.end_of(key)
    assert end.cause is Cause.LAUNCH_ERROR
    assert "SHA-256" in (end.message or "")


async def test_programs_and_functions_go_to_slots_of_their_own(bench: Bench) -> None:
    bench.submit(lane=1, command=["true"])
    bench.submit(lane=2)
    assert (await bench.link()).orders()[0][2] == f"/blobs/{FUNCTION}"
    assert FakeSource.made[0].links[0].orders()[0][2] == ["true"]


async def test_functions_processes_are_started_with_the_first_function(bench: Bench) -> None:
    bench.submit(command=["true"])
    assert not bench.functions
    for _ in range(3):
        bench.submit(lane=2)
    await bench.link()
    assert len(bench.functions) == 1


# Reports


async def test_ends_and_marks_are_told(bench: Bench) -> None:
    key = bench.submit()
    link = await bench.link()
    link.report(marks=[(*key, 0.4, "parsing")])
    link.end(key)
    end = await bench.end_of(key)
    assert (end.cause, end.value) == (None, b"\0x")
    assert bench.marks == [Mark(*key, 0.4, "parsing")]


async def test_the_end_of_a_line_is_told_at_once_with_all_that_waited(bench: Bench) -> None:
    keys = [bench.submit() for _ in range(3)]
    link = await bench.link()
    link.end(keys[0])
    link.end(keys[1])
    assert bench.tellings == 0
    link.end(keys[2])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert bench.tellings == 1
    assert [key for key, _ in bench.ended] == keys


async def test_what_stands_before_others_is_told_a_moment_later(bench: Bench) -> None:
    keys = [bench.submit() for _ in range(2)]
    (await bench.link()).end(keys[0])
    assert (await bench.end_of(keys[0])).cause is None


# Waiting for blobs


async def test_what_lacks_a_blob_waits_and_so_does_what_is_behind_it(bench: Bench) -> None:
    first = bench.submit()
    lacking, behind = bench.submit(blobs=[BLOB]), bench.submit()
    elsewhere = bench.submit(lane=2)
    link, other = await bench.link(), await bench.link(number=1)
    assert keys_of(link.orders()) == [first]
    assert keys_of(other.orders()) == [elsewhere]
    bench.blobs.come(BLOB)
    await bench.until(lambda: keys_of(link.orders()) == [first, lacking, behind], "all three in their order")


async def test_a_blob_is_fetched_once_however_many_wait(bench: Bench) -> None:
    for lane in range(5):
        bench.submit(lane=lane, blobs=[BLOB])
    await bench.until(lambda: BLOB in bench.blobs.fetches, "the download")
    bench.blobs.come(BLOB)
    await bench.link(number=4)


async def test_a_blob_that_is_gone_ends_those_that_need_it_and_no_others(bench: Bench) -> None:
    doomed = [bench.submit(lane=lane, blobs=[BLOB]) for lane in (1, 2)]
    behind = bench.submit(lane=2)
    await bench.until(lambda: BLOB in bench.blobs.fetches, "the download")
    bench.blobs.fetches.pop(BLOB).set_exception(SuppliesFailed("no longer has", cause=Cause.LAUNCH_ERROR))
    for key in doomed:
        end = await bench.end_of(key)
        assert (end.cause, end.message) == (Cause.LAUNCH_ERROR, "no longer has")
    assert keys_of((await bench.link()).orders()) == [behind]


async def test_a_mistake_of_ours_ends_the_attempt_and_not_the_worker(bench: Bench) -> None:
    key = bench.submit(blobs=[BLOB])
    await bench.until(lambda: BLOB in bench.blobs.fetches, "the download")
    bench.blobs.fetches.pop(BLOB).set_exception(ZeroDivisionError("oops"))
    assert (await bench.end_of(key)).cause is Cause.AGENT_ERROR


async def test_a_stop_of_what_waits_is_answered_at_once(bench: Bench) -> None:
    lacking, behind = bench.submit(blobs=[BLOB]), bench.submit()
    bench.pool.stop(lacking, cause=Cause.CANCELLED, grace_s=10.0)
    assert (await bench.end_of(lacking)).cause is Cause.CANCELLED
    assert keys_of((await bench.link()).orders()) == [behind]


async def test_what_waits_is_taken_back_at_once(bench: Bench) -> None:
    running = bench.submit()
    link = await bench.link()
    waiting = [bench.submit(blobs=[BLOB]), bench.submit()]
    bench.pool.take_back([running, *waiting, (TaskSeq(99), 1)])
    for key in [*waiting, (TaskSeq(99), 1)]:
        assert (await bench.end_of(key)).cause is Cause.RETURNED
    assert link.told[-1] == ("take-back", [running])


async def test_blobs_in_use_are_those_of_all_that_has_not_ended(bench: Bench) -> None:
    running, waiting = bench.submit(), bench.submit(blobs=[BLOB])
    link = await bench.link()
    assert bench.pool.blobs_in_use() == {FUNCTION, BLOB}
    bench.pool.stop(waiting, cause=Cause.CANCELLED, grace_s=0.0)
    assert bench.pool.blobs_in_use() == {FUNCTION}
    bench.blobs.is_home = False
    link.end(running, blobs=(OTHER,))
    assert bench.pool.blobs_in_use() == {OTHER}


# Waiting for slots


async def test_a_keeper_that_does_not_start_ends_what_waits_and_is_tried_again(bench: Bench) -> None:
    FakeSource.failing.append(OSError("no memory"))
    key = bench.submit()
    end = await bench.end_of(key)
    assert end.cause is Cause.AGENT_ERROR
    assert "no memory" in (end.message or "")
    assert bench.functions[0].is_closed
    again = bench.submit()
    assert keys_of((await bench.link(source=1)).orders()) == [again]


async def test_programs_run_where_functions_can_not(bench: Bench) -> None:
    FakeSource.failing.append(OSError("no memory"))
    await bench.end_of(bench.submit())
    bench.submit(command=["true"])
    assert len(FakeSource.made[0].links) == 1


async def test_a_line_changes_its_slot_where_the_environment_changes(bench: Bench) -> None:
    plain = bench.submit()
    special = [bench.submit(requirements=["b", "a"]), bench.submit(requirements=["a", "b"])]
    last = bench.submit()
    link = await bench.link()
    bench.environments.answers["a", "b"].set_result("/env/python")
    await bench.until(lambda: len(bench.functions) == 2, "the other keeper")
    assert bench.functions[1].interpreter == "/env/python"
    assert keys_of(link.orders()) == [plain]
    link.end(plain)
    other = await bench.link(source=1)
    assert keys_of(other.orders()) == special
    for key in special:
        other.end(key)
    await bench.until(lambda: keys_of(link.orders()) == [plain, last], "the first slot again")
    assert bench.environments.asked == [("a", "b")]


async def test_an_environment_that_can_not_be_built_ends_those_that_asked_for_it(bench: Bench) -> None:
    key, other = bench.submit(requirements=["a"]), bench.submit(lane=2)
    await bench.until(lambda: bench.environments.asked, "the build")
    bench.environments.answers["a",].set_exception(SuppliesFailed("pip said no", cause=Cause.LAUNCH_ERROR))
    end = await bench.end_of(key)
    assert (end.cause, end.message) == (Cause.LAUNCH_ERROR, "pip said no")
    assert keys_of((await bench.link()).orders()) == [other]


async def test_a_keeper_that_nobody_uses_leaves_and_comes_back(bench: Bench) -> None:
    key = bench.submit()
    (await bench.link()).end(key)
    await bench.end_of(key)
    bench.functions[0].unused_since = -1e9
    bench.pool._trim()
    await bench.until(lambda: bench.functions[0].is_closed, "it to leave")
    again = bench.submit()
    assert keys_of((await bench.link(source=1)).orders()) == [again]


# Slots that fail


async def test_what_a_lost_slot_had_is_answered_for_and_what_waits_goes_on(bench: Bench) -> None:
    first, second = bench.submit(), bench.submit()
    link = await bench.link()
    waiting = bench.submit(blobs=[BLOB])
    link.die(SlotFate("it was killed", is_empty=True, may_have_run=True))
    assert [(await bench.end_of(key)).cause for key in (first, second)] == [Cause.AGENT_ERROR, Cause.RETURNED]
    bench.blobs.come(BLOB)
    assert keys_of((await bench.link(number=1)).orders()) == [waiting]


async def test_a_slot_in_trouble_gets_nothing_more(bench: Bench) -> None:
    key = bench.submit()
    link = await bench.link()
    link.report(ended(key), trouble="a process can't be killed")
    assert (await bench.end_of(key)).cause is None
    again = bench.submit()
    assert keys_of((await bench.link(number=1)).orders()) == [again]


# Results that must go up first


async def test_an_end_waits_until_the_coordinator_has_its_blob(bench: Bench) -> None:
    bench.blobs.is_home = False
    key, behind = bench.submit(), bench.submit()
    link = await bench.link()
    link.end(key, blobs=(OTHER,))
    link.end(behind)
    assert (await bench.end_of(behind)).cause is None
    assert key not in bench.ends
    bench.blobs.uploads[OTHER].set_result(None)
    assert (await bench.end_of(key)).blobs == (OTHER,)


async def test_at_home_an_end_waits_for_nothing(bench: Bench) -> None:
    key = bench.submit()
    (await bench.link()).end(key, blobs=(OTHER,))
    assert (await bench.end_of(key)).blobs == (OTHER,)


async def test_a_result_that_is_refused_ends_the_attempt_as_the_workers_fault(bench: Bench) -> None:
    bench.blobs.is_home = False
    key = bench.submit()
    (await bench.link()).end(key, blobs=(OTHER,))
    await bench.until(lambda: OTHER in bench.blobs.uploads, "the upload")
    bench.blobs.uploads[OTHER].set_exception(SuppliesFailed("too large", cause=Cause.AGENT_ERROR))
    end = await bench.end_of(key)
    assert (end.cause, end.value, end.blobs) == (Cause.AGENT_ERROR, b"", ())
    assert "too large" in (end.message or "")


async def test_a_stop_gives_up_a_result_that_is_on_its_way(bench: Bench) -> None:
    bench.blobs.is_home = False
    key = bench.submit()
    (await bench.link()).end(key, blobs=(OTHER,))
    await bench.until(lambda: OTHER in bench.blobs.uploads, "the upload")
    bench.pool.take_back([key])
    bench.pool.stop(key, cause=Cause.CANCELLED, grace_s=1.0)
    end = await bench.end_of(key)
    assert (end.cause, end.value, end.blobs, end.run_s) == (Cause.CANCELLED, b"", (), 0.5)


async def test_a_pool_that_closes_in_peace_waits_for_results_on_their_way(bench: Bench) -> None:
    bench.blobs.is_home = False
    key = bench.submit()
    (await bench.link()).end(key, blobs=(OTHER,))
    await bench.until(lambda: OTHER in bench.blobs.uploads, "the upload")
    closing = asyncio.create_task(bench.pool.close(kill=False))
    await asyncio.sleep(0)
    assert not closing.done()
    bench.blobs.uploads[OTHER].set_result(None)
    await asyncio.wait_for(closing, 5)
    assert key in bench.ends


# Programs that are built


def program_orders() -> list[tuple[Any, ...]]:
    (programs,) = [source for source in FakeSource.made if source.kind == "process"]
    return [order for link in programs.links for order in link.orders()]


async def test_code_waits_for_its_program_and_what_stands_behind_it_waits_too(bench: Bench) -> None:
    first = bench.submit(kind="go", code="a", command=["x"])
    behind = bench.submit(command=["true"])
    elsewhere = bench.submit(kind="go", code="a", lane=2)
    await bench.until(lambda: bench.programs.builds, "the build")
    assert program_orders() == []
    assert bench.pool.blobs_in_use() == {"digest of a"}
    assert bench.programs.is_wanted()
    bench.programs.come("a")
    await bench.until(lambda: len(program_orders()) == 3, "all three")
    orders = {(order[0], order[1]): order for order in program_orders()}
    assert set(orders) == {first, behind, elsewhere}
    assert orders[first][2] == ["/programs/digest of a", "x"]
    assert orders[first][4] == orders[first][3]["TMPDIR"] == orders[first][3]["ROTA_SCRATCH"] == "/scratch/1"
    assert orders[first][8] == ("/scratch/1", [], "go", "main.go")
    assert orders[behind][8] is None
    assert bench.pool.blobs_in_use() == {"digest of a"}
    assert not bench.programs.is_wanted()


async def test_where_there_is_no_place_for_directories_snippets_fail_and_commands_run(bench: Bench) -> None:
    bench.scratch.problem = OSError(30, "Read-only file system", "/cache")
    key, command = bench.submit(kind="python", code="a"), bench.submit(command=["true"])
    end = await bench.end_of(key)
    assert end.cause is Cause.AGENT_ERROR
    assert "Read-only file system" in (end.message or "")
    assert keys_of(program_orders()) == [command]


async def test_a_program_that_is_there_goes_at_once(bench: Bench) -> None:
    bench.programs.here.add("digest of a")
    bench.submit(kind="go", code="a")
    assert [order[2] for order in program_orders()] == [["/programs/digest of a"]]


async def test_a_program_that_is_there_is_not_built_while_its_task_waits_for_others(bench: Bench) -> None:
    bench.programs.here.add("digest of a")
    waiting, behind = bench.submit(blobs=[BLOB]), bench.submit(kind="go", code="a")
    await bench.until(lambda: BLOB in bench.blobs.fetches, "the download")
    assert not bench.programs.builds
    bench.pool.stop(waiting, cause=Cause.CANCELLED, grace_s=0.0)
    await bench.until(lambda: keys_of(program_orders()) == [behind], "the order")


async def test_a_program_that_can_not_be_built_ends_those_that_need_it(bench: Bench) -> None:
    doomed = [bench.submit(kind="go", code="a", lane=lane) for lane in (1, 2)]
    other = bench.submit(kind="go", code="b", lane=3)
    await bench.until(lambda: len(bench.programs.builds) == 2, "the builds")
    bench.programs.builds.pop("a").set_exception(SuppliesFailed("main.go:1:1: no", cause=Cause.LAUNCH_ERROR))
    for key in doomed:
        end = await bench.end_of(key)
        assert (end.cause, end.message) == (Cause.LAUNCH_ERROR, "main.go:1:1: no")
    assert other not in bench.ends


async def test_a_stop_while_a_program_is_built_leaves_nobody_who_wants_it(bench: Bench) -> None:
    key = bench.submit(kind="go", code="a")
    await bench.until(lambda: bench.programs.builds, "the build")
    bench.pool.stop(key, cause=Cause.CANCELLED, grace_s=10.0)
    assert (await bench.end_of(key)).cause is Cause.CANCELLED
    assert not bench.programs.is_wanted()
    assert bench.pool.blobs_in_use() == set()

"""Slots when something is wrong here: no files left, specs that can't be read, attempts that nobody knows."""

from __future__ import annotations

import itertools
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from rota.core.model import Cause, TaskSeq
from rota.worker.slots import pool
from tests.integration.test_slots_pool import Bench, bench, running
from tests.support.waiting import wait_until_async

__all__ = ["bench"]


@contextmanager
def file_limit(soft: int) -> Iterator[None]:
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


def limit_with_room_for(count: int) -> int:
    used = set(map(int, os.listdir("/proc/self/fd")))
    free = (number for number in itertools.count() if number not in used)
    return next(itertools.islice(free, count, None))


async def test_what_no_slot_can_be_had_for_is_returned(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "RETURN_PAUSE_S", 0.05)
    works = [bench.work(lane=lane, command=["true"]) for lane in range(1, 21) for _ in range(2)]
    with file_limit(limit_with_room_for(10)):
        bench.pool.run(works)
        await wait_until_async(lambda: len(bench.ended) == len(works), what="all ends")
    causes = [bench.ended[work.key].cause for work in works]
    assert set(causes) == {None, Cause.RETURNED}
    assert (await bench.result(lane=99, command=["true"])).cause is None


async def test_what_waits_to_be_returned_can_be_stopped_and_taken_back(bench: Bench) -> None:
    works = [bench.work(lane=1, command=["true"]) for _ in range(2)]
    with file_limit(3):
        bench.pool.run(works)
    bench.pool.stop(works[0].key, cause=Cause.CANCELLED, grace_s=0.0)
    bench.pool.take_back([works[1].key])
    await wait_until_async(lambda: len(bench.ended) == 2, what="both ends")
    assert [bench.ended[work.key].cause for work in works] == [Cause.CANCELLED, Cause.RETURNED]


async def test_what_is_not_known_here_ends_as_it_is_asked(bench: Bench) -> None:
    stopped, wanted = (TaskSeq(77), 1), (TaskSeq(78), 1)
    bench.pool.stop(stopped, cause=Cause.CANCELLED, grace_s=0.0)
    bench.pool.stop(stopped, cause=Cause.CANCELLED, grace_s=0.0)
    bench.pool.take_back([wanted])
    assert (await bench.end_of(stopped)).cause is Cause.CANCELLED
    assert (await bench.end_of(wanted)).cause is Cause.RETURNED


async def test_a_spec_that_cannot_be_read_fails_alone(bench: Bench) -> None:
    good, bad, behind = (bench.work(command=["true"]) for _ in range(3))
    bench.pool.run([good, msgspec.structs.replace(bad, spec=b"\xc1"), behind])
    end = await bench.end_of(bad.key)
    assert end.cause is Cause.AGENT_ERROR
    assert (end.message or "").startswith("the worker could not run it: ")
    assert [(await bench.end_of(work.key)).cause for work in (good, behind)] == [None, None]


async def test_tasks_have_the_file_limit_that_they_are_given() -> None:
    async with running(file_limit=100) as bench:
        end = await bench.result(shell="ulimit -Sn; ulimit -Hn")
        assert end.stdout.split() == [b"100", str(resource.getrlimit(resource.RLIMIT_NOFILE)[1]).encode()]


async def test_a_keeper_without_room_for_a_slot_says_so_and_goes_on(bench: Bench) -> None:
    before = resource.prlimit(bench.keeper.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(bench.keeper.pid, resource.RLIMIT_NOFILE, (3, before[1]))
    end = await bench.result(lane=1, command=["true"])
    assert end.cause is Cause.AGENT_ERROR
    resource.prlimit(bench.keeper.pid, resource.RLIMIT_NOFILE, before)
    assert (await bench.result(lane=2, command=["true"])).cause is None

"""Functions in a real slot that harm what is around them: no call after them, and nobody else, is to notice."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import cloudpickle
import msgspec
import numpy as np
import pytest

import rota.functions.context
from rota.core.model import Cause
from rota.worker.slots import control
from tests.support.function_slots import FunctionBench, function_bench, patched_program

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[FunctionBench]:
    async with function_bench(tmp_path) as made:
        yield made


# What they tell --------------------------------------------------------------------------------


async def test_texts_that_are_no_unicode_can_leave_the_worker(bench: FunctionBench) -> None:
    def tell() -> None:
        rota.functions.context.current().set_progress(0.5, "caf\udce9")
        time.sleep(0.3)
        raise ValueError("caf\udce9")

    end = await bench.result(tell)
    assert end.message == "ValueError: caf\\udce9"
    assert [mark.text for mark in bench.marks] == ["caf\\udce9"]
    msgspec.msgpack.encode([end, *bench.marks])
    error, _ = bench.failure_of(end)
    assert str(error) == "caf\udce9"


async def test_progress_may_be_any_number(bench: FunctionBench) -> None:
    def tell() -> None:
        rota.functions.context.current().set_progress(np.float64(0.5))
        time.sleep(0.3)

    await bench.result(tell)
    assert [mark.fraction for mark in bench.marks] == [0.5]


async def test_an_exception_that_ends_programs_while_it_is_pickled_ends_only_its_call(bench: FunctionBench) -> None:
    class Obstinate(Exception):
        def __reduce__(self) -> tuple[object, ...]:
            raise SystemExit(3)

    def fail() -> None:
        raise Obstinate("no")

    end = await bench.result(fail)
    assert end.cause == Cause.ERROR
    assert "Obstinate: no" in (end.message or "")


# What they leave in their process ----------------------------------------------------------------


async def test_an_alarm_ends_no_other_call(bench: FunctionBench) -> None:
    def forget() -> None:
        signal.alarm(1)
        raise ValueError("before the alarm was taken back")

    await bench.result(forget)
    assert (await bench.result(time.sleep, 1.2)).cause is None


async def test_the_directory_and_the_umask_are_the_next_calls_own(bench: FunctionBench) -> None:
    def spoil() -> None:
        os.chdir("/")
        os.umask(0)

    def look() -> tuple[str, int]:
        return os.getcwd(), os.umask(0o22)

    before = await bench.value(look)
    assert before[0] != "/"
    await bench.result(spoil)
    assert await bench.value(look) == before


@pytest.mark.parametrize("fd", [1, 2])
async def test_a_redirected_stream_is_back_for_the_next_call(bench: FunctionBench, fd: int) -> None:
    def spoil() -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), fd)
        time.sleep(0.001)

    await bench.result(spoil)
    end = await bench.result(os.write, fd, b"here")
    assert end.stdout + end.stderr == b"here"


async def test_a_stream_that_was_made_non_blocking_takes_all_of_the_next_call(bench: FunctionBench) -> None:
    def spoil() -> None:
        os.set_blocking(1, False)
        time.sleep(0.001)

    await bench.result(spoil)
    end = await bench.result(print, "x" * 200_000)
    assert (end.cause, end.stdout_bytes) == (None, 200_001)


async def test_a_process_that_has_lost_its_descriptors_calls_nothing_more(bench: FunctionBench) -> None:
    def leak() -> None:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        for _ in range(limit - 20):
            os.open(os.devnull, os.O_RDONLY)

    leaking, *others = bench.run([bench.order(leak), *(bench.order(os.listdir, "/") for _ in range(50))])
    assert (await bench.end_of(leaking)).cause is None
    for key in others:
        assert (await bench.end_of(key)).cause is None


async def test_a_process_in_which_nothing_can_be_loaded_any_more_is_replaced(bench: FunctionBench) -> None:
    def spoil() -> None:
        sys.modules.clear()

    await bench.result(spoil)
    await bench.result(time.sleep, 0.0)
    assert (await bench.result(time.sleep, 0.0)).cause is None


async def test_a_process_without_memory_is_replaced(bench: FunctionBench) -> None:
    def starve() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 28, resource.RLIM_INFINITY))
        need()

    def need() -> int:
        return len(bytearray(1 << 29))

    end = await bench.result(starve)
    assert (end.cause, end.message) == (Cause.ERROR, "MemoryError")
    assert await bench.value(need) == 1 << 29


async def test_a_clock_that_a_function_has_bent_times_no_other_call(bench: FunctionBench) -> None:
    def bend() -> None:
        time.monotonic = time.time = lambda: 1e12

    await bench.result(bend)
    end = await bench.result(time.sleep, 60, timeout_s=0.2)
    assert end.cause == Cause.TIMEOUT
    assert 0.2 <= end.run_s < 30.0


async def test_a_process_that_stands_still_between_calls_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = "from rota.worker.slots.functions import standstill; standstill.PATIENCE_S = 0.3"
    monkeypatch.setattr(control, "_FUNCTION_PROGRAM", patched_program(impatient))
    async with function_bench(tmp_path) as bench:
        stopped = await bench.value(os.getpid)
        os.kill(stopped, signal.SIGSTOP)
        assert await bench.value(os.getpid, timeout_s=30.0) != stopped

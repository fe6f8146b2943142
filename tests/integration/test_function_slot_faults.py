"""Functions in a real slot that harm what is around them: no call after them, and nobody else, is to notice."""

from __future__ import annotations

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
from tests.support.function_slots import FunctionBench, function_bench

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

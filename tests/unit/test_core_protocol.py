"""What a worker may say: amounts and times have bounds, so that nothing absurd gets as far as the core."""

from __future__ import annotations

import math

import msgspec
import pytest

from rota.core.model import Gpu, Offer, TaskSeq, WorkerId
from rota.core.protocol import (
    Ended,
    FromWorker,
    Heartbeat,
    Hello,
    OutputChunk,
    Report,
    SlotsLost,
    Started,
    Usage,
)
from rota.wire.messages import COORDINATOR_CODEC, BadMessage


def hello(offer: Offer) -> Hello:
    return Hello(1, WorkerId("w1"), "i1", offer, None, [], [], 1.0)


def assert_refused(message: FromWorker) -> None:
    with pytest.raises(BadMessage, match=r"Expected `(int|float)`"):
        COORDINATOR_CODEC.decode(msgspec.msgpack.encode(message))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, -1.0])
@pytest.mark.parametrize("field", ["started_at", "ended_at", "run_s", "cpu_seconds"])
def test_time_that_is_no_time_is_refused(field: str, wrong: float) -> None:
    assert_refused(Report(1, ended=[msgspec.structs.replace(Ended(TaskSeq(1), 1, None), **{field: wrong})]))


@pytest.mark.parametrize(
    "message",
    [
        Report(-1),
        Report(1, [Started(TaskSeq(1), 1, math.nan)]),
        Report(1, ended=[Ended(TaskSeq(1), 1, None, exit_code=2**63)]),
        Report(1, ended=[Ended(TaskSeq(1), 1, None, stdout_bytes=-1)]),
        Report(1, ended=[Ended(TaskSeq(1), 1, None, peak_memory_kib=2**63)]),
        Report(1, output=[OutputChunk(TaskSeq(1), 1, "stdout", -1, b"")]),
        Heartbeat(1e300, Usage()),
        Heartbeat(1.0, Usage(cpu_percent=math.nan)),
        SlotsLost(-3, "fewer than none"),
        hello(Offer((("cpu", -1),))),
        hello(Offer((), max_tasks=-1)),
        hello(Offer((), gpus=(Gpu(-1),))),
    ],
    ids=lambda message: str(message)[:40],
)
def test_amount_that_can_not_be_is_refused(message: FromWorker) -> None:
    assert_refused(message)


def test_amounts_that_can_be_are_taken() -> None:
    ended = Ended(TaskSeq(1), 1, None, -1, 9, 1e9, 2e9, 1e9, 0.0, 2**40, 2**63 - 1, 0)
    report = Report(1, ended=[ended])
    assert COORDINATOR_CODEC.decode(msgspec.msgpack.encode(report)) == report

"""A channel between a real server and a real client: what goes in comes out, in order, under load too."""

from __future__ import annotations

import asyncio

import httpx

from rota.core.model import Cause, Epoch, LaneId, Offer, TaskId, TaskSeq, WorkerId
from rota.core.protocol import (
    Assign,
    Assignment,
    Heartbeat,
    HeartbeatAck,
    Held,
    Hello,
    OutputChunk,
    Report,
    ReportAck,
    Stop,
    Usage,
    Welcome,
)
from rota.core.spec import SPEC_BYTES_MAX
from rota.wire.channel import CloseCode
from tests.support.channels import CoordinatorEnd, on_both_loops, on_every_transport
from tests.support.waiting import wait_until_async


def assign_of(seq: int, *, spec: bytes = b"") -> Assign:
    only = Assignment(TaskSeq(seq), 1, LaneId(1), 1, TaskId(f"t{seq}"), spec)
    return Assign(epoch=Epoch(1), attempts=[only])


@on_every_transport
async def test_messages_arrive_both_ways(coordinator: CoordinatorEnd) -> None:
    worker, session = await coordinator.worker()
    beat, ack = Heartbeat(sent_at=1.5, usage=Usage()), HeartbeatAck(sent_at=1.5)
    worker.line.send(beat)
    assert await session.wait_for_messages(1) == [beat]
    session.line.send(ack)
    assert await worker.wait_for_messages(1) == [ack]


@on_every_transport
async def test_ten_thousand_messages_arrive_in_order(coordinator: CoordinatorEnd) -> None:
    worker, session = await coordinator.worker()
    for number in range(10_000):
        worker.line.send(Report(number=number))
    reports = await session.wait_for_messages(10_000)
    assert reports == [Report(number=number) for number in range(10_000)]


@on_every_transport
async def test_messages_of_one_turn_arrive_together(coordinator: CoordinatorEnd) -> None:
    worker, session = await coordinator.worker()
    for number in range(100):
        session.line.send(ReportAck(number=number))
    await worker.wait_for_messages(100)
    assert len(worker.batches) == 1


@on_every_transport
async def test_message_that_may_wait_leaves_with_the_next_in_its_place(coordinator: CoordinatorEnd) -> None:
    worker, session = await coordinator.worker()
    session.line.send(ReportAck(number=1), within_s=3600.0)
    session.line.send(ReportAck(number=2))
    assert await worker.wait_for_messages(2) == [ReportAck(number=1), ReportAck(number=2)]
    assert len(worker.batches) == 1


@on_every_transport
async def test_message_that_may_wait_leaves_alone_when_its_time_is_over(coordinator: CoordinatorEnd) -> None:
    worker, session = await coordinator.worker()
    session.line.send(ReportAck(number=1), within_s=0.01)
    assert await worker.wait_for_messages(1) == [ReportAck(number=1)]


@on_every_transport
async def test_message_that_may_wait_is_not_lost_by_a_close(coordinator: CoordinatorEnd) -> None:
    worker, session = await coordinator.worker()
    session.line.send(ReportAck(number=1), within_s=3600.0)
    session.line.close(code=CloseCode.NORMAL, reason="done")
    assert await worker.wait_for_messages(1) == [ReportAck(number=1)]


@on_every_transport
async def test_spec_of_the_largest_size_passes(coordinator: CoordinatorEnd) -> None:
    worker, session = await coordinator.worker()
    largest = assign_of(1, spec=b"x" * SPEC_BYTES_MAX)
    session.line.send(largest)
    assert await worker.wait_for_messages(1) == [largest]


@on_every_transport
async def test_urgent_messages_overtake_only_on_a_congested_line(coordinator: CoordinatorEnd) -> None:
    worker, session = await coordinator.worker()
    worker.line.pause_reading()
    sent = 0
    while session.line.backlog_bytes < 4 << 20:
        session.line.send(assign_of(sent, spec=b"x" * (64 << 10)))
        sent += 1
        await asyncio.sleep(0)
    session.line.send(Stop(attempts=[(TaskSeq(0), 1)], cause=Cause.CANCELLED, grace_s=1.0))
    session.line.send(HeartbeatAck(sent_at=2.0))
    worker.line.resume_reading()
    await worker.wait_for_messages(sent + 2)
    kinds = [type(message) for message in worker.messages]
    assert kinds.index(HeartbeatAck) < len(kinds) - 30
    assert kinds[-1] is Stop
    assert [kind for kind in kinds if kind is Assign] == [Assign] * sent


@on_every_transport
async def test_slow_reader_holds_up_nobody_else(coordinator: CoordinatorEnd) -> None:
    slow, slow_session = await coordinator.worker()
    quick, quick_session = await coordinator.worker()
    slow.line.pause_reading()
    for seq in range(64):
        slow_session.line.send(assign_of(seq, spec=b"x" * SPEC_BYTES_MAX))
    quick_session.line.send(HeartbeatAck(sent_at=1.0))
    await quick.wait_for_messages(1)
    assert slow_session.line.backlog_bytes > 0
    slow.line.resume_reading()
    assert len(await slow.wait_for_messages(64)) == 64
    assert slow_session.line.backlog_bytes == 0


@on_every_transport
async def test_paused_coordinator_makes_the_worker_wait(coordinator: CoordinatorEnd) -> None:
    worker, session = await coordinator.worker()
    session.line.pause_reading()
    chunk = OutputChunk(TaskSeq(1), 1, "stdout", 0, b"x" * (64 << 10))
    reports = [Report(number=number, output=[chunk] * 8) for number in range(32)]
    for report in reports:
        worker.line.send(report)
    await wait_until_async(lambda: 0 < worker.line.backlog_bytes < 16 << 20, what="a backlog")
    assert not session.batches or len(session.messages) < len(reports)
    session.line.resume_reading()
    assert await session.wait_for_messages(32) == reports


@on_every_transport
async def test_what_was_sent_before_a_close_still_arrives(coordinator: CoordinatorEnd) -> None:
    worker, session = await coordinator.worker()
    for seq in range(20):
        session.line.send(assign_of(seq, spec=b"x" * (256 << 10)))
    session.line.close(code=CloseCode.NORMAL, reason="that was all")
    assert await worker.wait_until_closed() == "closed by the other side: that was all (1000)"
    assert len(worker.messages) == 20


@on_both_loops
async def test_http_is_served_beside_an_open_channel(coordinator: CoordinatorEnd) -> None:
    worker, session = await coordinator.worker()
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{coordinator.url}/")).text == "hello"
    worker.line.send(Report(number=1))
    await session.wait_for_messages(1)


@on_every_transport
async def test_a_worker_with_very_many_attempts_can_say_hello(coordinator: CoordinatorEnd) -> None:
    holds = [Held(TaskSeq(1_000_000 + n), 1, LaneId(n // 500), n % 500, started=False) for n in range(300_000)]
    keys = [(held.task, held.attempt) for held in holds]
    worker, session = await coordinator.worker()
    hello = Hello(1, WorkerId("w1"), "i1", Offer(()), "c1", holds, [], 1.0)
    worker.line.send(hello)
    assert await session.wait_for_messages(1) == [hello]
    welcome = Welcome(1, "c1", Epoch(1), 3.0, stop=keys)
    session.line.send(welcome)
    assert await worker.wait_for_messages(1) == [welcome]

"""Any message survives the wire, any bytes are survived, and pieces are small and add up to the whole."""

from __future__ import annotations

import random
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from rota.core.model import Cause, Epoch, Gpu, LaneId, Offer, TaskId, TaskSeq, WorkerId
from rota.core.protocol import (
    Assign,
    Assignment,
    Closing,
    Ended,
    FromCoordinator,
    FromWorker,
    Heartbeat,
    HeartbeatAck,
    Held,
    Hello,
    Leaving,
    OutputChunk,
    Recall,
    Refused,
    Report,
    ReportAck,
    SlotsLost,
    Started,
    Stop,
    Usage,
    Welcome,
)
from rota.wire.backoff import RECONNECT_CAP_S, RECONNECT_FLOOR_S, reconnect_delay_s
from rota.wire.messages import (
    COORDINATOR_CODEC,
    PIECE_BYTES_MAX,
    WORKER_CODEC,
    BadMessage,
    Codec,
    assign_pieces,
)
from rota.wire.outbox import Outbox

In = TypeVar("In")
Out = TypeVar("Out")

numbers = st.integers(0, 2**63 - 1)
seqs = numbers.map(TaskSeq)
lanes = numbers.map(LaneId)
times = st.floats(0.0, 1e10)
texts = st.text(max_size=50)
data = st.binary(max_size=200)
keys = st.tuples(seqs, numbers)
causes = st.sampled_from(Cause)

offers = st.builds(
    Offer,
    resources=st.lists(st.tuples(texts, numbers), max_size=4).map(tuple),
    tags=st.frozensets(texts, max_size=4),
    gpus=st.lists(st.builds(Gpu, memory_mib=numbers, model=texts), max_size=4).map(tuple),
    host=texts,
)
starts = st.builds(Started, task=seqs, attempt=numbers, at=times)
ends = st.builds(
    Ended,
    task=seqs,
    attempt=numbers,
    cause=st.none() | causes,
    exit_code=st.none() | st.integers(-(2**31), 2**31),
    started_at=st.none() | times,
    ended_at=times,
    run_s=times,
    cpu_seconds=st.none() | times,
    stdout_bytes=numbers,
    stdout=data,
    stderr=data,
    message=st.none() | texts,
)
chunks = st.builds(
    OutputChunk, task=seqs, attempt=numbers, stream=st.sampled_from(["stdout", "stderr"]), offset=numbers, data=data
)
assignments = st.builds(
    Assignment,
    task=seqs,
    attempt=numbers,
    lane=lanes,
    place=numbers,
    id=texts.map(TaskId),
    spec=data,
    devices=st.lists(numbers, max_size=9).map(tuple),
)
held = st.builds(Held, task=seqs, attempt=numbers, lane=lanes, place=numbers, started=st.booleans())
usages = st.builds(Usage, cpu_percent=times, memory_used_mib=numbers, memory_total_mib=numbers, load_1m=times)

from_worker: st.SearchStrategy[FromWorker] = st.one_of(
    st.builds(
        Hello,
        version=numbers,
        worker=texts.map(WorkerId),
        instance=texts,
        offer=offers,
        cluster=st.none() | texts,
        holds=st.lists(held),
        ended=st.lists(keys),
        sent_at=times,
    ),
    st.builds(Heartbeat, sent_at=times, usage=usages),
    st.builds(Report, number=numbers, started=st.lists(starts), ended=st.lists(ends), output=st.lists(chunks)),
    st.builds(SlotsLost, count=numbers, message=texts),
    st.builds(Leaving, done=st.booleans()),
)
from_coordinator: st.SearchStrategy[FromCoordinator] = st.one_of(
    st.builds(
        Welcome,
        version=numbers,
        cluster=texts,
        epoch=numbers.map(Epoch),
        heartbeat_s=times,
        stop=st.lists(keys),
    ),
    st.builds(Refused, code=texts, message=texts, retryable=st.booleans()),
    st.builds(Assign, epoch=numbers.map(Epoch), attempts=st.lists(assignments)),
    st.builds(Stop, attempts=st.lists(keys), cause=causes, grace_s=times),
    st.builds(Recall, attempts=st.lists(keys)),
    st.builds(ReportAck, number=numbers),
    st.builds(HeartbeatAck, sent_at=times),
    st.builds(Closing, message=texts),
)


@given(from_worker)
def test_whatever_a_worker_says_arrives(message: FromWorker) -> None:
    assert COORDINATOR_CODEC.decode(WORKER_CODEC.encode(message)) == message


@given(from_coordinator)
def test_whatever_the_coordinator_says_arrives(message: FromCoordinator) -> None:
    assert WORKER_CODEC.decode(COORDINATOR_CODEC.encode(message)) == message


@given(st.binary())
def test_any_bytes_are_a_message_or_refused(frame: bytes) -> None:
    survives(COORDINATOR_CODEC, frame)
    survives(WORKER_CODEC, frame)


@given(from_worker, st.data())
def test_damaged_message_is_another_one_or_refused(message: FromWorker, choices: st.DataObject) -> None:
    frame = bytearray(WORKER_CODEC.encode(message))
    frame[choices.draw(st.integers(0, len(frame) - 1))] = choices.draw(st.integers(0, 255))
    survives(COORDINATOR_CODEC, frame)


def survives(codec: Codec[In, Out], frame: bytes | bytearray) -> None:
    try:
        codec.decode(frame)
    except BadMessage as error:
        assert str(error)  # noqa: PT017  # either outcome is right


# Sizes are drawn apart from contents: a piece is filled by few entries then, and cuts are seen.
sizes = st.lists(st.integers(0, 300_000), max_size=12)


@given(sizes)
def test_pieces_of_an_assignment_are_small_and_add_up(spec_sizes: list[int]) -> None:
    attempts = [
        Assignment(TaskSeq(2**62), 2**31, LaneId(2**40), 2**40, TaskId("é" * 200), bytes(size), tuple(range(16)))
        for size in spec_sizes
    ]
    pieces = list(assign_pieces(Assign(Epoch(3), attempts)))
    assert [attempt for piece in pieces for attempt in piece.attempts] == attempts
    assert all(piece.epoch == 3 and piece.attempts for piece in pieces)
    assert all(len(COORDINATOR_CODEC.encode(piece)) <= PIECE_BYTES_MAX for piece in pieces)


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=9), st.booleans())), st.integers(1, 30))
def test_outbox_loses_nothing_and_keeps_the_order_of_each_kind(puts: list[tuple[bytes, bool]], wanted: int) -> None:
    outbox = Outbox()
    for frame, overtakes in puts:
        outbox.put(frame, overtakes=overtakes)
    taken: list[bytes] = []
    while outbox:
        assert outbox.backlog_bytes == sum(len(frame) for frame, _ in puts) - sum(map(len, taken))
        batch = outbox.take(wanted)
        assert sum(map(len, batch[:-1])) < wanted
        taken += batch
    assert taken == [frame for frame, overtakes in puts if overtakes] + [frame for frame, first in puts if not first]


@given(st.integers(1, 10**6), st.integers(0, 2**32))
def test_reconnect_delay_stays_between_floor_and_cap_and_depends_on_nothing_else(attempt: int, seed: int) -> None:
    delay_s = reconnect_delay_s(attempt, random.Random(seed))
    assert RECONNECT_FLOOR_S <= delay_s <= min(RECONNECT_CAP_S, RECONNECT_FLOOR_S * 2.0 ** min(attempt, 20))
    assert delay_s == reconnect_delay_s(attempt, random.Random(seed))

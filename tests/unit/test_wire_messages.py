"""Messages as bytes: what is refused, what may overtake, and where large ones are cut."""

from __future__ import annotations

import msgspec
import pytest

from rota.core.errors import BadRequest, TooLarge
from rota.core.model import Cause, Epoch, LaneId, Offer, TaskId, TaskSeq, WorkerId
from rota.core.protocol import (
    Assign,
    Assignment,
    Closing,
    GangSeats,
    Heartbeat,
    HeartbeatAck,
    Held,
    Hello,
    Leaving,
    OutputChunk,
    Recall,
    Report,
    ReportAck,
    Seat,
    Stop,
    Usage,
    Welcome,
)
from rota.core.spec import SPEC_BYTES_MAX
from rota.wire.messages import (
    COORDINATOR_CODEC,
    LARGE_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    PIECE_BYTES_MAX,
    WORKER_CODEC,
    BadMessage,
    assign_pieces,
)


def assignment(seq: int, *, spec: bytes = b"") -> Assignment:
    return Assignment(TaskSeq(seq), 1, LaneId(seq), seq, TaskId("x" * 200), spec, devices=(0, 7))


@pytest.mark.parametrize(
    "frame",
    [b"", b"\xc1", b"\x80", b"\x82\xa4type\xa4beat\xa7sent_at\xa1\xff", b"\x81\xa4type\xa6report", b"\x91" * 100_000],
    ids=["empty", "no-opcode", "no-tag", "no-utf-8", "field-missing", "deep"],
)
def test_bytes_that_are_no_message_are_refused_with_a_sentence(frame: bytes) -> None:
    with pytest.raises(BadMessage, match=f"^{len(frame):,} bytes that are no message of this protocol: ") as caught:
        COORDINATOR_CODEC.decode(frame)
    assert isinstance(caught.value, BadRequest)
    assert caught.value.code == "bad_message"


def test_two_messages_in_one_frame_are_refused() -> None:
    frame = WORKER_CODEC.encode(Leaving(done=True))
    with pytest.raises(BadMessage):
        COORDINATOR_CODEC.decode(frame + frame)


def test_field_of_a_newer_version_is_passed_over() -> None:
    frame = b"\x83\xa4type\xa7leaving\xa4done\xc3\xa3new\x01"
    assert COORDINATOR_CODEC.decode(frame) == Leaving(done=True)


def test_message_over_the_limit_is_the_senders_mistake() -> None:
    chunk = OutputChunk(TaskSeq(1), 1, "stdout", 0, bytes(MESSAGE_BYTES_MAX))
    with pytest.raises(TooLarge, match=r"a Report of 2,097,\d+ bytes: it may have at most 2,097,152"):
        WORKER_CODEC.encode(Report(number=1, output=[chunk]))


def test_only_what_refers_to_nothing_before_it_is_urgent() -> None:
    assert WORKER_CODEC.is_urgent(Heartbeat(sent_at=1.0, usage=Usage()))
    assert not WORKER_CODEC.is_urgent(Report(number=1))
    assert not WORKER_CODEC.is_urgent(Leaving(done=True))
    for urgent in (HeartbeatAck(sent_at=1.0), ReportAck(number=1), Closing(message="")):
        assert COORDINATOR_CODEC.is_urgent(urgent)
    for patient in (Stop([(TaskSeq(1), 1)], Cause.CANCELLED, 1.0), Recall([]), Assign(Epoch(1), [])):
        assert not COORDINATOR_CODEC.is_urgent(patient)


def test_small_assignment_is_not_cut() -> None:
    assign = Assign(Epoch(1), [assignment(1), assignment(2)])
    assert [piece is assign for piece in assign_pieces(assign)] == [True]


def test_specs_of_the_largest_size_go_one_by_one() -> None:
    attempts = [assignment(seq, spec=bytes(SPEC_BYTES_MAX)) for seq in range(3)]
    pieces = list(assign_pieces(Assign(Epoch(7), attempts)))
    assert pieces == [Assign(Epoch(7), [attempt]) for attempt in attempts]
    assert all(len(COORDINATOR_CODEC.encode(piece)) < MESSAGE_BYTES_MAX for piece in pieces)


def test_many_small_assignments_fill_their_frames() -> None:
    attempts = [assignment(seq, spec=bytes(500)) for seq in range(4000)]
    sizes = [len(COORDINATOR_CODEC.encode(piece)) for piece in assign_pieces(Assign(Epoch(1), attempts))]
    assert max(sizes) <= PIECE_BYTES_MAX
    assert len(sizes) <= 8


HOLDS = [Held(TaskSeq(1_000_000 + n), 1, LaneId(n // 500 + 1), n % 500, started=False) for n in range(300_000)]


def test_all_that_a_large_worker_holds_fits_a_hello() -> None:
    hello = Hello(1, WorkerId("w1"), "i" * 32, Offer(()), "c1", HOLDS, [], 1.0)
    frame = WORKER_CODEC.encode(hello)
    assert MESSAGE_BYTES_MAX < len(frame) < LARGE_BYTES_MAX / 2
    assert COORDINATOR_CODEC.decode(frame) == hello


def test_all_that_a_large_worker_holds_can_be_stopped_at_once() -> None:
    keys = [(held.task, held.attempt) for held in HOLDS]
    for message in (
        Welcome(1, "c1", Epoch(1), 3.0, stop=keys),
        Stop(keys, Cause.CANCELLED, 1.0),
        Recall(keys),
    ):
        assert WORKER_CODEC.decode(COORDINATOR_CODEC.encode(message)) == message


def test_other_messages_are_not_taken_so_large() -> None:
    chunk = OutputChunk(TaskSeq(1), 1, "stdout", 0, bytes(MESSAGE_BYTES_MAX))
    with pytest.raises(TooLarge, match="a Report of "):
        COORDINATOR_CODEC.decode(msgspec.msgpack.encode(Report(number=1, output=[chunk])))


def test_pieces_of_an_assignment_keep_what_it_says_of_their_attempts() -> None:
    attempts = [assignment(seq, spec=bytes(600_000)) for seq in (1, 2)]
    first, second = TaskSeq(1), TaskSeq(2)
    gang = GangSeats("g", ("a", "b"), [Seat(first, 1, 0), Seat(second, 1, 1)])
    alone = GangSeats("h", ("a",), [Seat(second, 1, 0)])
    one, other = assign_pieces(Assign(Epoch(1), attempts, [(first, 1)], [gang, alone]))
    assert (one.leased, other.leased) == ([(first, 1)], [])
    assert one.gangs == [GangSeats("g", ("a", "b"), [Seat(first, 1, 0)])]
    assert other.gangs == [GangSeats("g", ("a", "b"), [Seat(second, 1, 1)]), alone]

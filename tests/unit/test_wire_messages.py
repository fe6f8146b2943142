"""Messages as bytes: what is refused, what may overtake, and where large ones are cut."""

from __future__ import annotations

import pytest

from rota.core.errors import BadRequest, TooLarge
from rota.core.model import Cause, Epoch, LaneId, TaskId, TaskSeq
from rota.core.protocol import (
    Assign,
    Assignment,
    Closing,
    Ended,
    Heartbeat,
    HeartbeatAck,
    Leaving,
    OutputChunk,
    Recall,
    Report,
    ReportAck,
    Started,
    Stop,
    Usage,
)
from rota.core.spec import SPEC_BYTES_MAX
from rota.wire.messages import (
    COORDINATOR_CODEC,
    MESSAGE_BYTES_MAX,
    PIECE_BYTES_MAX,
    WORKER_CODEC,
    BadMessage,
    assign_pieces,
    report_pieces,
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
    with pytest.raises(TooLarge, match=r"a Report of 2,097,\d+ bytes: a message has at most 2,097,152"):
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


def test_report_of_nothing_has_no_pieces() -> None:
    assert list(report_pieces([], [], output=[])) == []


def test_end_of_an_attempt_is_never_reported_before_its_start_and_its_output() -> None:
    started = [Started(TaskSeq(1), 1, 1.0)]
    output = [OutputChunk(TaskSeq(1), 1, "stdout", number << 16, bytes(64 << 10)) for number in range(40)]
    ended = [Ended(TaskSeq(1), 1, None)]
    pieces = list(report_pieces(started, ended, output=output))
    assert len(pieces) == 3
    assert [bool(piece[0]) for piece in pieces] == [True, False, False]
    assert [bool(piece[1]) for piece in pieces] == [False, False, True]
    assert [chunk for piece in pieces for chunk in piece[2]] == output

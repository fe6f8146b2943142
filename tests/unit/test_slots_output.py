"""What is kept of an output stream, looked at without a process."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.worker.slots.output import CHUNK_BYTES_MAX, HOLD_S, INLINE_BYTES_MAX, OutputStream

LIMIT = 8192


@pytest.fixture
def stream() -> Iterator[OutputStream]:
    made = OutputStream("stdout", LIMIT)
    yield made
    close(made)


def close(stream: OutputStream) -> None:
    os.close(stream.read_fd)
    os.close(stream.write_fd)


def test_nothing_to_read_is_no_error(stream: OutputStream) -> None:
    assert stream.read(0.0) == 0
    assert stream.next_due() is None


def test_small_output_waits_for_more_and_is_then_handed_on(stream: OutputStream) -> None:
    os.write(stream.write_fd, b"abc")
    stream.drain(10.0)
    assert stream.next_due() == 10.0 + HOLD_S
    assert stream.take_due(10.0 + HOLD_S / 2) == []
    assert stream.take_due(10.0 + HOLD_S) == [(0, b"abc")]
    assert stream.next_due() is None


def test_the_hold_counts_from_the_first_byte(stream: OutputStream) -> None:
    for now in (10.0, 10.4):
        os.write(stream.write_fd, b"x")
        stream.drain(now)
    assert stream.take_due(10.0 + HOLD_S) == [(0, b"xx")]


def test_what_was_handed_on_is_still_inline(stream: OutputStream) -> None:
    os.write(stream.write_fd, b"abc")
    stream.drain(0.0)
    stream.take_due(HOLD_S)
    assert stream.is_small()
    assert stream.inline() == b"abc"


def test_a_full_chunk_does_not_wait() -> None:
    stream = OutputStream("stdout", 1 << 20)
    os.write(stream.write_fd, bytes(CHUNK_BYTES_MAX))
    stream.drain(10.0)
    assert [len(data) for _, data in stream.take_due(10.0)] == [CHUNK_BYTES_MAX]
    close(stream)


def test_the_next_attempt_starts_from_nothing(stream: OutputStream) -> None:
    os.write(stream.write_fd, bytes(LIMIT * 2))
    stream.drain(0.0)
    stream.begin()
    assert (stream.count, stream.inline(), stream.take_rest()) == (0, b"", [])


def test_a_pipe_made_non_blocking_is_blocking_again(stream: OutputStream) -> None:
    os.set_blocking(stream.write_fd, False)
    stream.begin()
    assert os.get_blocking(stream.write_fd)


@given(
    writes=st.lists(st.integers(min_value=1, max_value=6000), max_size=30),
    takes=st.sets(st.integers(min_value=0, max_value=29)),
)
def test_first_and_last_part_are_kept_at_their_offsets(writes: list[int], takes: set[int]) -> None:
    stream = OutputStream("stdout", LIMIT)
    whole = b""
    pieces: list[tuple[int, bytes]] = []
    for index, count in enumerate(writes):
        data = bytes((len(whole) + at) * 7 % 251 for at in range(count))
        os.write(stream.write_fd, data)
        stream.drain(float(index))
        whole += data
        if index in takes:
            pieces += stream.take_due(float(index) + HOLD_S)
    pieces += stream.take_rest()
    half = LIMIT // 2
    kept = dict.fromkeys(range(min(len(whole), half)))
    kept |= dict.fromkeys(range(max(half, len(whole) - half), len(whole)))
    assert [at for offset, data in pieces for at in range(offset, offset + len(data))] == list(kept)
    assert all(whole[offset : offset + len(data)] == data for offset, data in pieces)
    assert stream.count == len(whole)
    assert stream.inline() == whole[:INLINE_BYTES_MAX]
    close(stream)

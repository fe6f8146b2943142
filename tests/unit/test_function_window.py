"""The memory that a slot shares with its runner, with both ends in one process."""

from __future__ import annotations

import random

from rota.worker.slots.functions.window import RING_BYTES, TAIL, Window


def test_records_come_out_as_they_went_in_round_after_round() -> None:
    window = Window()
    rng = random.Random(3)
    head = taken = 0
    written: list[bytes] = []
    read: list[bytes] = []
    for ordinal in range(1, 2000):
        record = rng.randbytes(rng.randrange(1, 4000))
        head = window.write(head, record, ordinal)
        written.append(record)
        if rng.random() < 0.1:
            last, data = window.take()
            assert last == ordinal
            read.append(data)
            taken += len(data)
            assert window.words[TAIL] == taken
    read.append(window.take()[1])
    assert head == sum(map(len, written)) > 2 * RING_BYTES
    assert b"".join(read) == b"".join(written)
    assert window.take() == (1999, b"")


def test_a_full_ring_has_room_for_nothing_and_is_taken_whole() -> None:
    window = Window()
    head = window.write(0, b"x", 1)
    window.take()
    record = random.Random(1).randbytes(RING_BYTES)
    head = window.write(head, record, 2)
    assert not window.write(head, b"x", 3)
    assert window.take() == (2, record)
    assert window.write(head, record, 3)


def test_a_mark_is_found_once_and_only_for_its_call() -> None:
    window = Window()
    assert window.find_mark(7, 0) is None
    window.forget_marks()
    assert window.write_mark(7, 0.5, "half")
    assert window.find_mark(8, 0) is None
    found = window.find_mark(7, 0)
    assert found is not None
    assert found[1:] == (0.5, "half")
    assert window.find_mark(7, found[0]) is None
    assert not window.write_mark(7, None, "😀" * 200)
    found = window.find_mark(7, found[0])
    assert found is not None
    assert found[1:] == (None, "😀" * 200)


def test_a_reset_window_has_nothing() -> None:
    window = Window()
    window.write(0, b"record", 5)
    window.write_mark(5, 1.0, "")
    window.reset()
    assert window.take() == (0, b"")
    assert window.find_mark(5, 0) is None

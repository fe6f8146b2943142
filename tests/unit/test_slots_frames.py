"""Frames come out as they went in, however they are cut on the way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rota.worker.slots.frames import Unpacker, pack

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=200),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    messages=st.lists(st.lists(values, max_size=5).map(tuple), max_size=6),
    cuts=st.lists(st.integers(1, 64), min_size=1),
)
def test_messages_survive_any_cutting(messages: list[tuple[object, ...]], cuts: list[int]) -> None:
    stream = b"".join(map(pack, messages))
    unpacker = Unpacker()
    received: list[tuple[object, ...]] = []
    turn = 0
    while stream:
        size = cuts[turn % len(cuts)]
        received += unpacker.feed(stream[:size])
        stream = stream[size:]
        turn += 1
    assert received == messages


def test_a_frame_is_not_handed_out_before_its_last_byte() -> None:
    frame = pack(("run", [b"x" * 1000]))
    unpacker = Unpacker()
    assert unpacker.feed(frame[:-1]) == []
    assert unpacker.feed(frame[-1:]) == [("run", [b"x" * 1000])]

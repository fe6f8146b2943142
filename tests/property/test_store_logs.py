"""A log cut off anywhere, by a crash, holds a beginning of what was appended, and goes on from there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from rota.core.model import TaskSeq
from rota.core.protocol import OutputChunk
from rota.store import LogStore


def read_all(logs: LogStore) -> bytes:
    return b"".join(piece.data for piece in logs.read(TaskSeq(1), 1, "stdout").pieces)


def chunks_of(pieces: list[bytes]) -> list[OutputChunk]:
    offsets = [sum(map(len, pieces[:n])) for n in range(len(pieces))]
    return [OutputChunk(TaskSeq(1), 1, "stdout", offset, data) for offset, data in zip(offsets, pieces, strict=True)]


@settings(max_examples=60)
@example(  # what is cut off and what comes behind have the length of the last record, but not its bytes
    pieces=[bytes(2), bytes(2), bytes(3), bytes(4), bytes(9) + b"\1"], cut=185, garbage=b"\0", loses_index=False
)
@given(
    pieces=st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=8),
    cut=st.integers(0, 700),
    garbage=st.binary(max_size=50),
    loses_index=st.booleans(),
)
def test_log_cut_off_anywhere_is_a_beginning_and_takes_the_rest_again(
    pieces: list[bytes], cut: int, garbage: bytes, *, loses_index: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        logs = LogStore(directory, durable=False)
        logs.open(cluster="c1", last_seq=TaskSeq(1 << 40))
        for chunk in chunks_of(pieces):
            logs.append([chunk])
        logs.close()
        (segment,) = directory.glob("*.log")
        os.truncate(segment, min(cut, segment.stat().st_size))
        with segment.open("ab") as file:
            file.write(garbage)
        if loses_index:
            (directory / "index.db").unlink()
        logs = LogStore(directory, durable=False)
        logs.open(cluster="c1", last_seq=TaskSeq(1 << 40))
        assert b"".join(pieces).startswith(read_all(logs))
        logs.append(chunks_of(pieces))  # what was not acknowledged comes again
        assert read_all(logs) == b"".join(pieces)
        logs.close()

"""Records of output in append-only files: how one is written, found again, and told from a torn one.

A record is a header and the bytes. The header's checksum covers everything after itself, so a record that was
being written when the power went is recognised, and reading stops before it. A record that must never be read
again is made void in its place, by its first bytes.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from rota.core.model import StreamName, TaskSeq
from rota.core.protocol import OutputChunk

__all__ = [
    "HEADER_BYTES",
    "OFFSET_MAX",
    "Found",
    "encode_record",
    "find_segments",
    "make_void",
    "read_record",
    "scan_records",
    "segment_path",
]

OFFSET_MAX: Final = 1 << 62
"""In a stream: beyond what any program writes, and what comes after it still has a number in the index."""

_MAGIC: Final = b"RLG1"
_VOID: Final = b"RLG0"
_PREFIX: Final = struct.Struct("<4sI")  # the magic, and the checksum of all that follows
_BODY: Final = struct.Struct("<QIBQI")  # task, attempt, stream, offset in the stream, bytes of data
HEADER_BYTES: Final = _PREFIX.size + _BODY.size

_STREAM_CODES: Final[dict[StreamName, int]] = {"stdout": 1, "stderr": 2}
_STREAMS: Final[dict[int, StreamName]] = {code: stream for stream, code in _STREAM_CODES.items()}

_DATA_BYTES_MAX: Final = 16 << 20
"""Far above a chunk: a length over it was never written by us, and is not read into memory."""

_SUFFIX: Final = ".log"


class Found(Struct, frozen=True, gc=False):
    """A record and where its header begins."""

    position: int
    chunk: OutputChunk

    @property
    def end(self) -> int:
        return self.position + HEADER_BYTES + len(self.chunk.data)


def segment_path(directory: Path, number: int) -> Path:
    """Where a segment is: numbered from 1, in the order they were begun."""
    return directory / f"{number:08}{_SUFFIX}"


def find_segments(directory: Path) -> list[int]:
    """The numbers of the segments in a directory, oldest first."""
    return sorted(int(path.stem) for path in directory.glob(f"*{_SUFFIX}") if path.stem.isdigit())


def encode_record(chunk: OutputChunk) -> bytes:
    """The bytes of a record."""
    assert 0 <= chunk.offset <= OFFSET_MAX, f"{chunk.offset} is no offset in a stream"
    body = _BODY.pack(chunk.task, chunk.attempt, _STREAM_CODES[chunk.stream], chunk.offset, len(chunk.data))
    return _PREFIX.pack(_MAGIC, zlib.crc32(chunk.data, zlib.crc32(body))) + body + chunk.data


def read_record(fd: int, position: int) -> OutputChunk | None:
    """The record that begins at a position, or ``None`` if no whole one does, or it is void."""
    magic, chunk = _read(fd, position)
    return chunk if magic == _MAGIC else None


def make_void(fd: int, position: int) -> None:
    """Let the record that begins at a position never be found again, and those behind it still be."""
    os.pwrite(fd, _VOID, position)


def scan_records(fd: int, start: int) -> Iterator[Found]:
    """Yield the whole records from a position on, up to the first that is not; void ones are passed over."""
    position = start
    while True:
        magic, chunk = _read(fd, position)
        if chunk is None:
            return
        found = Found(position, chunk)
        if magic == _MAGIC:
            yield found
        position = found.end


def _read(fd: int, position: int) -> tuple[bytes, OutputChunk | None]:
    """The first bytes of what begins at a position, and what it holds if it is a whole record, void or not."""
    header = os.pread(fd, HEADER_BYTES, position)
    if len(header) < HEADER_BYTES:
        return b"", None
    magic, checksum = _PREFIX.unpack_from(header)
    task, attempt, code, offset, length = _BODY.unpack_from(header, _PREFIX.size)
    if magic not in (_MAGIC, _VOID) or code not in _STREAMS or length > _DATA_BYTES_MAX:
        return magic, None
    data = os.pread(fd, length, position + HEADER_BYTES)
    if len(data) < length or zlib.crc32(data, zlib.crc32(header[_PREFIX.size :])) != checksum:
        return magic, None
    return magic, OutputChunk(TaskSeq(task), attempt, _STREAMS[code], offset, data)

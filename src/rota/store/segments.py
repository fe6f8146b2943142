"""Records of output in append-only files: how one is written, found again, and told from a torn one.

A record is a header and the bytes. The header's checksum covers everything after itself, so a record that was
being written when the power went is recognised, and reading stops before it.
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

__all__ = ["HEADER_BYTES", "Found", "encode_record", "find_segments", "read_record", "scan_records", "segment_path"]

_MAGIC: Final = b"RLG1"
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
    body = _BODY.pack(chunk.task, chunk.attempt, _STREAM_CODES[chunk.stream], chunk.offset, len(chunk.data))
    return _PREFIX.pack(_MAGIC, zlib.crc32(chunk.data, zlib.crc32(body))) + body + chunk.data


def read_record(fd: int, position: int) -> OutputChunk | None:
    """The record that begins at a position, or ``None`` if no whole one does."""
    header = os.pread(fd, HEADER_BYTES, position)
    if len(header) < HEADER_BYTES:
        return None
    magic, checksum = _PREFIX.unpack_from(header)
    task, attempt, code, offset, length = _BODY.unpack_from(header, _PREFIX.size)
    if magic != _MAGIC or code not in _STREAMS or length > _DATA_BYTES_MAX:
        return None
    data = os.pread(fd, length, position + HEADER_BYTES)
    if len(data) < length or zlib.crc32(data, zlib.crc32(header[_PREFIX.size :])) != checksum:
        return None
    return OutputChunk(TaskSeq(task), attempt, _STREAMS[code], offset, data)


def scan_records(fd: int, start: int) -> Iterator[Found]:
    """Yield the whole records from a position on, up to the first that is not."""
    position = start
    while chunk := read_record(fd, position):
        found = Found(position, chunk)
        yield found
        position = found.end

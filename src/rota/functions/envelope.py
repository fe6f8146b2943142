"""Values as bytes: a pickle of protocol 5 with its buffers beside it, or the name of a blob that holds one.

An envelope is one byte that says which, and then:

- ``PLAIN``: the pickle, and nothing else.
- ``BUFFERED``: ``<I`` number of buffers, ``<Q`` length of the pickle, ``<Q`` length of each buffer, the pickle, and
  each buffer, beginning at a multiple of `ALIGNMENT` from the start of the envelope. An array can be used where it
  lies, without a copy.
- ``BLOB``: 32 bytes of SHA-256 and ``<Q`` length of a blob that is itself an envelope of the other kinds.

Only the SDK and slots open envelopes; to the coordinator they are bytes. The first byte is the version, too: kinds are
added, never changed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

__all__ = [
    "ALIGNMENT",
    "INLINE_BYTES_MAX",
    "BadEnvelope",
    "blob_of",
    "is_blob",
    "pack_blob",
    "pack_value",
    "unpack_value",
    "value_bytes",
]

PLAIN = 0
BUFFERED = 1
BLOB = 2

INLINE_BYTES_MAX = 64 << 10
"""An envelope up to here travels with its task; a larger one is a blob."""

ALIGNMENT = 64
"""Of buffers: a cache line, which is what vector units like best."""

_COUNTS = struct.Struct("<xIQ")
_LENGTH = struct.Struct("<Q")
_BLOB = struct.Struct("<x32sQ")
_PLAIN_BYTE = bytes((PLAIN,))
_BLOB_BYTE = bytes((BLOB,))


class BadEnvelope(ValueError):
    """These bytes are no envelope of a kind that is known here."""


def pack_value(pickled: bytes, buffers: Sequence[memoryview] = ()) -> list[bytes | memoryview]:
    r"""Lay a value out: pieces that make an envelope when they are joined. Buffers are not copied.

    >>> b"".join(pack_value(b"abc"))
    b'\x00abc'
    """
    if not buffers:
        return [_PLAIN_BYTE, pickled]
    head = bytearray(_COUNTS.pack(len(buffers), len(pickled)))
    head[0] = BUFFERED
    for buffer in buffers:
        head += _LENGTH.pack(buffer.nbytes)
    pieces: list[bytes | memoryview] = [bytes(head), pickled]
    at = len(head) + len(pickled)
    for buffer in buffers:
        gap = -at % ALIGNMENT
        pieces += [bytes(gap), buffer]
        at += gap + buffer.nbytes
    return pieces


def value_bytes(pieces: Sequence[bytes | memoryview]) -> int:
    """How long the envelope is that the pieces make."""
    return sum(len(piece) if isinstance(piece, bytes) else piece.nbytes for piece in pieces)


def unpack_value(envelope: bytes | memoryview) -> tuple[memoryview, list[memoryview]]:
    """The pickle and the buffers of an envelope that is no blob's, without copying.

    Raises:
        BadEnvelope: It is something else, or cut short.
    """
    view = memoryview(envelope)
    kind = view[0] if view else None
    if kind == PLAIN:
        return view[1:], []
    if kind != BUFFERED or len(view) < _COUNTS.size:
        raise BadEnvelope(f"an envelope of kind {kind!r} can't be unpacked here")
    count, pickle_bytes = _COUNTS.unpack_from(view)
    at = _COUNTS.size + count * _LENGTH.size
    if len(view) < at + pickle_bytes:
        raise BadEnvelope("the envelope is cut short")
    lengths = [_LENGTH.unpack_from(view, _COUNTS.size + index * _LENGTH.size)[0] for index in range(count)]
    pickled = view[at : at + pickle_bytes]
    at += pickle_bytes
    buffers = []
    for length in lengths:
        at += -at % ALIGNMENT
        buffers.append(view[at : at + length])
        at += length
    if at > len(view):
        raise BadEnvelope("the envelope is cut short")
    return pickled, buffers


def pack_blob(digest: str, size: int) -> bytes:
    """The envelope that names a blob.

    Args:
        digest: Its SHA-256 in hexadecimal.
        size: Its length in bytes.
    """
    packed = bytearray(_BLOB.pack(bytes.fromhex(digest), size))
    packed[0] = BLOB
    return bytes(packed)


def is_blob(envelope: bytes) -> bool:
    """Whether an envelope names a blob instead of holding its value."""
    return envelope[:1] == _BLOB_BYTE


def blob_of(envelope: bytes) -> tuple[str, int] | None:
    """The digest and the length of the blob that an envelope names, or ``None`` if it holds its value itself.

    >>> blob_of(pack_blob("ab" * 32, 5)) == ("ab" * 32, 5)
    True
    """
    if not envelope or envelope[0] != BLOB:
        return None
    if len(envelope) != _BLOB.size:
        raise BadEnvelope("the name of a blob is cut short")
    digest, size = _BLOB.unpack(envelope)
    return digest.hex(), size

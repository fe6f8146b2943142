"""HTTP/2 and gRPC by hand: what a library would not let a test send, or would answer by itself."""

from __future__ import annotations

import struct
from typing import Final

__all__ = [
    "ACK",
    "DATA",
    "END_HEADERS",
    "END_STREAM",
    "HEADERS",
    "OPENING",
    "PING",
    "PREFACE",
    "SETTINGS",
    "call_headers",
    "frame",
    "message",
]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS: Final = bytes.fromhex("000000040000000000")
OPENING: Final = PREFACE + SETTINGS
"""What every client begins with."""

DATA: Final = 0
HEADERS: Final = 1
PING: Final = 6
"""Kinds of frames."""

ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
"""Flags, each of some kinds."""


def frame(kind: int, payload: bytes, *, flags: int = 0, stream: int = 1) -> bytes:
    """An HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def call_headers(path: bytes, **more: bytes) -> bytes:
    """The frame that opens a gRPC call; its fields are written out, none is compressed."""
    fields = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": path,
        b":authority": b"localhost",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
        **{name.replace("_", "-").encode(): value for name, value in more.items()},
    }
    block = b"".join(b"\x00%c%b%c%b" % (len(name), name, len(value), value) for name, value in fields.items())
    return frame(HEADERS, block, flags=END_HEADERS)


def message(data: bytes, *, length: int | None = None, compressed: int = 0) -> bytes:
    """What gRPC puts before a message, and the message."""
    return struct.pack(">BI", compressed, len(data) if length is None else length) + data

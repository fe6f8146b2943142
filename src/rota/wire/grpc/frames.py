"""Frames as bytes: the small protobuf envelope in which messages travel, of ``proto/rota/v1/channel.proto``.

The border to protobuf. grpc.aio hands bytes through as they are, because a frame that is none is to close its own
channel with a reason, and would otherwise fail somewhere inside the library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from rota.v1 import channel_pb2
from rota.wire.channel import CloseCode
from rota.wire.messages import LARGE_BYTES_MAX, BadMessage

__all__ = ["ACCEPTED", "FRAME_BYTES_MAX", "METHOD", "CloseFrame", "close_frame", "pack", "unpack"]

METHOD: Final = "/rota.v1.Channel/Open"
"""What is called to open a channel."""

ACCEPTED: Final = ("rota-channel", "open")
"""The initial metadata of a stream that is a channel: of one that is refused it is empty, and comes as well."""

FRAME_BYTES_MAX: Final = LARGE_BYTES_MAX + (1 << 20)
"""Of one frame: a message of the largest size behind as much as a frame is filled with, and the envelope of both."""

_REASON_CHARS_MAX: Final = 1000
"""Of a close: a sentence, whatever the other side sends."""


@dataclass(frozen=True, slots=True)
class CloseFrame:
    """The end, as the other side says it. ``code`` may be none that we know."""

    code: int
    reason: str


def pack(messages: Sequence[bytes]) -> bytes:
    """Put encoded messages into a frame."""
    return channel_pb2.Frame(messages=messages).SerializeToString()


def close_frame(code: CloseCode, reason: str) -> bytes:
    """Return the frame that ends a channel."""
    close = channel_pb2.Close(code=code, reason=reason[:_REASON_CHARS_MAX])
    return channel_pb2.Frame(close=close).SerializeToString()


def unpack(frame: bytes) -> tuple[Sequence[bytes], CloseFrame | None]:
    """Return the encoded messages of a frame, and the end that comes after them, if one does.

    Raises:
        BadMessage: It is no frame.
    """
    try:
        found = channel_pb2.Frame.FromString(frame)
    except DecodeError as error:
        raise BadMessage(f"{len(frame):,} bytes that are no frame of this protocol") from error
    if not found.HasField("close"):
        return found.messages, None
    return found.messages, CloseFrame(found.close.code, found.close.reason[:_REASON_CHARS_MAX])

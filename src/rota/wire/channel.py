"""The Channel port: one open connection that carries messages both ways, whatever transport is under it.

Callbacks instead of coroutines, because this is the hot way: a read of the socket becomes one call with all
the messages that it brought. Everything happens on the loop's thread. The life of a channel:
``opened`` once, ``received`` any number of times, ``closed`` once; never two at once, nothing after
``closed``. An error that a handler raises ends its channel, not the process.

A channel that is open says nothing about the other side being alive: heartbeats do.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Literal, Protocol, TypeVar

from rota.core.errors import RotaError

__all__ = ["CHANNEL_PATH", "GRPC_PORT", "Channel", "ChannelError", "ChannelHandler", "CloseCode", "Transport"]

CHANNEL_PATH: Final = "/api/v1/channel"
"""Where a coordinator's channel is, under its base URL."""

GRPC_PORT: Final = 50_051
"""Where a coordinator speaks gRPC, unless it is told otherwise."""

Transport = Literal["websocket", "grpc"]
"""What may be under a channel."""

In = TypeVar("In")
Out_contra = TypeVar("Out_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)


class CloseCode(IntEnum):
    """Why a channel is closed, in the numbers of WebSocket (RFC 6455 and its registry)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    NOT_BINARY = 1003
    BAD_MESSAGE = 1007
    POLICY = 1008
    TOO_LARGE = 1009
    INTERNAL_ERROR = 1011
    RESTARTING = 1012
    TRY_LATER = 1013


class ChannelError(RotaError):
    """No channel could be opened: one line says where and why.

    ``retryable`` says whether the same try can succeed later; ``status`` is the HTTP status of a
    refusal, if it was one.
    """

    code = "channel_error"

    def __init__(self, message: str, *, retryable: bool, status: int | None = None) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.status = status


class Channel(Protocol[Out_contra]):
    """One open connection."""

    peer: str
    """The address of the other side, for people."""

    def send(self, message: Out_contra, *, within_s: float = 0.0) -> None:
        """Queue a message; never blocks.

        What is sent within one turn of the loop leaves together. A message that need not be there at once
        may wait for others to leave with, ``within_s`` at most: each write wakes a process, some 50 µs on both
        sides. Messages keep their order, but when the line is congested the urgent ones (see the codec) overtake the
        others. After the end it does nothing. Whoever fills a line faster than the other side reads finds the
        channel closed.

        Raises:
            TooLarge: The message is over the limit of any message.
        """
        ...

    def close(self, *, code: CloseCode, reason: str) -> None:
        """Write what waits, say why, and close.

        Nothing is received from now on. ``closed`` follows when the other side has answered, or
        shortly after if it doesn't. A second call does nothing.
        """
        ...

    def pause_reading(self) -> None:
        """Receive nothing for now, so that the other side finds the line congested.

        Neither messages (heartbeats!) nor the end of the channel are seen meanwhile. What one read brought
        already still arrives.
        """
        ...

    def resume_reading(self) -> None:
        """Receive again."""
        ...

    @property
    def backlog_bytes(self) -> int:
        """Bytes that wait here because the other side reads too slowly."""
        ...


class ChannelHandler(Protocol[In, Out_co]):
    """What becomes of a channel's messages: a session, an agent."""

    def opened(self, channel: Channel[Out_co]) -> None:
        """The channel is open: messages can be sent from now on."""
        ...

    def received(self, messages: list[In]) -> None:
        """All the messages that one read of the socket brought, in order, at least one."""
        ...

    def closed(self, reason: str) -> None:
        """The channel is gone. ``reason`` is a sentence for people. Not called from within ``close``."""
        ...

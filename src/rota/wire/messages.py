"""Messages as bytes: MessagePack, one message a frame, and never a frame larger than its limit.

A `Codec` reads one side's tagged union and writes the other's. What comes in is checked against
the types of ``rota.core.protocol``: bytes that are no such message are a `BadMessage`, whatever they
are. What goes out is cut by its sender, before a number is given to it: an ack of a number then
covers exactly one frame. `assign_pieces` cuts by an upper bound of the encoded size, which is cheaper than encoding
twice; reports are cut by ``rota.core.reports``. Only messages that name all attempts of a worker at once are not cut,
and may be larger: a hello is one statement, and half a stop would be half a promise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Generic, TypeVar

import msgspec

from rota.core.client_protocol import ClientHello, ClientWelcome, FromClient, ToClient
from rota.core.errors import BadRequest, TooLarge
from rota.core.protocol import (
    Assign,
    Assignment,
    Closing,
    FromCoordinator,
    FromWorker,
    GangSeats,
    Heartbeat,
    HeartbeatAck,
    Hello,
    Recall,
    ReportAck,
    Stop,
    Welcome,
)
from rota.core.spec import SPEC_BYTES_MAX

__all__ = [
    "CLIENT_CODEC",
    "COORDINATOR_CODEC",
    "LARGE_BYTES_MAX",
    "MESSAGE_BYTES_MAX",
    "PIECE_BYTES_MAX",
    "WORKER_CODEC",
    "BadMessage",
    "Codec",
    "FromPeer",
    "ToPeer",
    "assign_pieces",
]

PIECE_BYTES_MAX: Final = 1 << 20
"""Bytes of one encoded Assign or Report that holds more than one thing: what a heartbeat may have to wait behind."""

ENVELOPE_BYTES_MAX: Final = 64 << 10
"""Bytes around a single spec of the largest size: ids, numbers, names of fields."""

MESSAGE_BYTES_MAX: Final = 2 << 20
"""Bytes of an encoded message. The receiver closes the channel over it, so that garbage can't fill its memory."""

LARGE_BYTES_MAX: Final = 16 << 20
"""The same of those that name all attempts of a worker: a hello with a million of them has 15 bytes for each.

A coordinator takes so much only of a hello, which comes first on a channel, and once.
"""

assert SPEC_BYTES_MAX + ENVELOPE_BYTES_MAX <= MESSAGE_BYTES_MAX

_FIXED_BYTES: Final = 128
"""At most, of the numbers and the array headers of one assignment."""

_UTF8_BYTES_A_CHARACTER: Final = 4
_DEVICE_BYTES: Final = 9

In = TypeVar("In")
Out = TypeVar("Out")
Item = TypeVar("Item")


class BadMessage(BadRequest):
    """The other side sent what is not a message of this protocol."""

    code = "bad_message"


class Codec(Generic[In, Out]):
    """Reads messages of type ``In`` and writes messages of type ``Out``.

    Args:
        decoder: Checks the bytes that come in against ``In``.
        urgent: The types of ``Out`` that may overtake others when the line is congested.
        large: The types of both that may have up to `LARGE_BYTES_MAX`.
    """

    __slots__ = ("_decode", "_encode", "_large", "_urgent")

    def __init__(
        self, decoder: msgspec.msgpack.Decoder[In], *, urgent: tuple[type, ...], large: tuple[type, ...]
    ) -> None:
        self._large = large
        self._decode: Callable[[bytes | bytearray], In] = decoder.decode
        self._encode: Callable[[Out], bytes] = msgspec.msgpack.Encoder().encode
        self._urgent = urgent

    def encode(self, message: Out) -> bytes:
        """Return the bytes of a message.

        Raises:
            TooLarge: Over its limit: the sender should have cut it.
        """
        frame = self._encode(message)
        if len(frame) > MESSAGE_BYTES_MAX:
            self._check_size(message, len(frame))
        return frame

    def decode(self, frame: bytes | bytearray) -> In:
        """Return the message that the bytes hold.

        Raises:
            BadMessage: They hold none.
            TooLarge: Over the limit of the message that they hold.
        """
        try:
            message = self._decode(frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadMessage(f"{len(frame):,} bytes that are no message of this protocol: {error}") from error
        if len(frame) > MESSAGE_BYTES_MAX:
            self._check_size(message, len(frame))
        return message

    def is_urgent(self, message: Out) -> bool:
        """Say whether the message may overtake others that wait: it refers to none of them."""
        return isinstance(message, self._urgent)

    def _check_size(self, message: In | Out, size: int) -> None:
        bytes_max = LARGE_BYTES_MAX if isinstance(message, self._large) else MESSAGE_BYTES_MAX
        if size > bytes_max:
            raise TooLarge(f"a {type(message).__name__} of {size:,} bytes: it may have at most {bytes_max:,}")


_LARGE: Final = (Hello, Welcome, Stop, Recall, ClientHello, ClientWelcome)

FromPeer = FromWorker | FromClient
"""What may arrive at a coordinator: who it is from, the first message says."""

ToPeer = FromCoordinator | ToClient

# `Stop` and `Recall` keep their place although they are short: overtaking the `Assign` that they
# refer to, they would name attempts that the worker has never heard of, and stop nothing. `Leaving`
# keeps its place behind the reports that it concludes, and reports keep theirs among
# each other, because an ack of one covers all before it.
COORDINATOR_CODEC: Final[Codec[FromPeer, ToPeer]] = Codec(
    msgspec.msgpack.Decoder(FromPeer), urgent=(HeartbeatAck, ReportAck, Closing), large=_LARGE
)
"""The coordinator's: reads what workers and clients say."""

WORKER_CODEC: Final[Codec[FromCoordinator, FromWorker]] = Codec(
    msgspec.msgpack.Decoder(FromCoordinator), urgent=(Heartbeat,), large=_LARGE
)
"""The worker's: reads what the coordinator says."""

CLIENT_CODEC: Final[Codec[ToClient, FromClient]] = Codec(msgspec.msgpack.Decoder(ToClient), urgent=(), large=_LARGE)
"""The SDK's. Its messages keep their order: a submission that overtook another would be taken for a repetition."""


# Cutting --------------------------------------------------------------------------------------


def assign_pieces(assign: Assign) -> Iterator[Assign]:
    """Cut an assignment of many attempts into messages of at most 1 MiB, in order.

    A single attempt with a spec of the largest size makes a message of its own, slightly over.
    """
    for attempts in _pieces(assign.attempts, _assignment_bytes):
        yield assign if len(attempts) == len(assign.attempts) else _piece_of(assign, attempts)


def _piece_of(assign: Assign, attempts: list[Assignment]) -> Assign:
    """Some attempts of an assignment, with what it says of these."""
    if not assign.leased and not assign.gangs:
        return Assign(epoch=assign.epoch, attempts=attempts)
    keys = {(given.task, given.attempt) for given in attempts}
    gangs = [
        GangSeats(gang.id, gang.hosts, [seat for seat in gang.seats if (seat.task, seat.attempt) in keys])
        for gang in assign.gangs
    ]
    return Assign(
        epoch=assign.epoch,
        attempts=attempts,
        leased=[key for key in assign.leased if key in keys],
        gangs=[gang for gang in gangs if gang.seats],
    )


def _pieces(items: Iterable[Item], size: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Fill pieces greedily; an item that is too large for any has one of its own."""
    piece: list[Item] = []
    total = _FIXED_BYTES
    for item in items:
        item_bytes = size(item)
        if piece and total + item_bytes > PIECE_BYTES_MAX:
            yield piece
            piece, total = [], _FIXED_BYTES
        piece.append(item)
        total += item_bytes
    if piece:
        yield piece


def _assignment_bytes(item: Assignment) -> int:
    """At least what the assignment takes when it is encoded."""
    return _FIXED_BYTES + len(item.spec) + _UTF8_BYTES_A_CHARACTER * len(item.id) + _DEVICE_BYTES * len(item.devices)

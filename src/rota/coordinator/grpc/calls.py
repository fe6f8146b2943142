"""From the bytes of a request to its handler and back: the same few steps for every RPC but channels.

Handlers raise; here, and nowhere else, errors become statuses. The message is read here too, not by the library, which
would answer bytes that are no message with our insides.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeAlias, TypeVar

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError, Message

from rota.coordinator.grpc.errors import CallContext, MessageTooLarge, refuse, refuse_with_internal
from rota.coordinator.metrics import Counters
from rota.core.errors import BadRequest, RotaError, TooLarge

__all__ = ["REQUEST_BYTES_MAX", "answering", "answering_streams"]

REQUEST_BYTES_MAX: Final = 8 << 20
"""Of one message, as of a request over REST; the server takes more, for channels."""

FIELDS_MAX: Final = 10_200
"""At the top of one request: 10,000 tasks and a few more, so that slightly too many are counted where they are read.

A hostile 8 MiB holds 4 million empty tasks, which would become gigabytes before anybody could count them.
"""

VARINT_BITS_MAX: Final = 63
"""Of a number on the wire; the parser takes no longer ones either."""

_SHORTEST_FIELD: Final = 2
_FIXED_LENGTHS: Final = {1: 8, 5: 4}

Q = TypeVar("Q", bound=Message)
A = TypeVar("A")
G = TypeVar("G")

Answering: TypeAlias = Callable[[G, CallContext], Awaitable[A | None]]

log = structlog.get_logger(__name__)


def answering(
    behaviour: Callable[[Q, CallContext], Awaitable[A]], request: type[Q], *, name: str, counters: Counters
) -> Answering[bytes, A]:
    """Make what the library calls with a request's bytes: unary if ``behaviour`` returns a message, else streaming.

    Args:
        behaviour: The handler.
        request: What it takes.
        name: Of the RPC, for the log and the metrics.
        counters: Where calls are counted.
    """

    def begin(data: bytes, context: CallContext) -> Awaitable[A]:
        return behaviour(_read(request, data), context)

    return _at_the_border(begin, name=name, counters=counters)


def answering_streams(
    behaviour: Callable[[AsyncIterator[Q], CallContext], Awaitable[A]],
    request: type[Q],
    *,
    name: str,
    counters: Counters,
) -> Answering[AsyncIterator[bytes], A]:
    """Do as `answering` does for an RPC that is sent a stream of messages: its handler takes them one by one."""

    async def read(stream: AsyncIterator[bytes]) -> AsyncIterator[Q]:
        async for data in stream:
            yield _read(request, data)

    def begin(stream: AsyncIterator[bytes], context: CallContext) -> Awaitable[A]:
        return behaviour(read(stream), context)

    return _at_the_border(begin, name=name, counters=counters)


def _at_the_border(
    begin: Callable[[G, CallContext], Awaitable[A]], *, name: str, counters: Counters
) -> Answering[G, A]:
    async def answer(given: G, context: CallContext) -> A | None:
        status = grpc.StatusCode.CANCELLED  # until it has come to an end
        try:
            response = await begin(given, context)
            status = grpc.StatusCode.OK
            return response
        except RotaError as error:
            status = refuse(context, error)
        except grpc.aio.BaseError:
            raise  # the library's own: the client is gone, or the server stops
        except Exception:  # the border: whatever it is, the client gets an answer, the log the rest
            log.exception("call_failed", method=name)
            status = refuse_with_internal(context)
        finally:
            counters.count_call(name, status.name)
        return None

    return answer


def _read(request: type[Q], data: bytes) -> Q:
    if len(data) > REQUEST_BYTES_MAX:
        raise MessageTooLarge(
            f"a message of {len(data):,} bytes: at most {REQUEST_BYTES_MAX:,} are taken; send several"
        )
    if len(data) > FIELDS_MAX * _SHORTEST_FIELD:
        _check_field_count(data)
    try:
        return request.FromString(data)
    except DecodeError as error:
        raise BadRequest(f"the bytes are no {request.DESCRIPTOR.full_name}: is the contract that of proto/?") from error


def _check_field_count(data: bytes) -> None:
    """Refuse too many fields before any of them is made. What is malformed is left to the parser, which stops there.

    Raises:
        TooLarge: There are more than `FIELDS_MAX`.
        BadRequest: There is a group, which no contract of ours has and which could hide them.
    """
    position, count = 0, 0
    try:
        while position < len(data):
            count += 1
            if count > FIELDS_MAX:
                raise TooLarge(f"the request has over {FIELDS_MAX:,} entries: at most 10,000 tasks are taken at once")
            key, position = _varint(data, position)
            kind = key & 7
            if kind in (3, 4):
                raise BadRequest("the request has a group, which the contract does not know")
            if kind in _FIXED_LENGTHS:
                position += _FIXED_LENGTHS[kind]
            else:
                value, position = _varint(data, position)
                position += value if kind == 2 else 0
    except IndexError:
        return


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Read a number of a few bytes; return it and where the next begins.

    Raises:
        IndexError: It has no end, or none soon.
    """
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > VARINT_BITS_MAX:
            raise IndexError

"""How errors leave over gRPC: the status of each class, the sentence as its message, the code beside it.

The trailing metadata carry ``rota-code``, for what is wrong with a task ``rota-field`` and ``rota-index``, and for what
may be asked again ``grpc-retry-pushback-ms``, which gRPC's own retries keep to. Statuses are set, not raised: an
exception that the library keeps holds the frames that it passed, a cycle for each refused call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio

from rota.core.errors import (
    BadRequest,
    BadSpec,
    Conflict,
    Forbidden,
    Gone,
    NotFound,
    Overloaded,
    RotaError,
    TooLarge,
    Unauthorized,
    Unavailable,
)

__all__ = ["GRPC_STATUS_OF", "CallContext", "MessageTooLarge", "refuse", "refuse_with_internal"]

CallContext: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class MessageTooLarge(TooLarge):
    """One message of gRPC is over its limit: told in the status that the library has for those over its own."""


GRPC_STATUS_OF: Final[Mapping[type[RotaError], grpc.StatusCode]] = {
    BadRequest: grpc.StatusCode.INVALID_ARGUMENT,
    Unauthorized: grpc.StatusCode.UNAUTHENTICATED,
    Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    NotFound: grpc.StatusCode.NOT_FOUND,
    Conflict: grpc.StatusCode.ALREADY_EXISTS,
    Gone: grpc.StatusCode.NOT_FOUND,
    MessageTooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    TooLarge: grpc.StatusCode.INVALID_ARGUMENT,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
}
"""The status of each class of errors and of those derived from it."""

PUSHBACK_MS: Final = 1000
"""Asked of clients when we are full or away, as REST does."""

MESSAGE_CHARS_MAX: Final = 500
"""Clients take 8 KiB of metadata, and each character may become twelve bytes of it."""


def refuse(context: CallContext, error: RotaError) -> grpc.StatusCode:
    """End a call with an error that was foreseen, in the status of its class; return that."""
    known = [cls for cls in type(error).__mro__ if cls in GRPC_STATUS_OF]
    status = GRPC_STATUS_OF[known[0]] if known else grpc.StatusCode.INTERNAL
    metadata = [("rota-code", error.code)]
    if isinstance(error, BadSpec):
        metadata.append(("rota-field", error.field))
    if error.index is not None:
        metadata.append(("rota-index", str(error.index)))
    if isinstance(error, (Overloaded, Unavailable)):
        metadata.append(("grpc-retry-pushback-ms", str(PUSHBACK_MS)))
    return _end(context, status, str(error), metadata=metadata)


def refuse_with_internal(context: CallContext) -> grpc.StatusCode:
    """End a call with what we did not foresee; the log has the rest. Returns the status."""
    message = "something went wrong inside the coordinator: its log says what"
    return _end(context, grpc.StatusCode.INTERNAL, message, metadata=[("rota-code", "internal")])


def _end(
    context: CallContext, status: grpc.StatusCode, message: str, *, metadata: list[tuple[str, str]]
) -> grpc.StatusCode:
    context.set_code(status)
    context.set_details(message if len(message) <= MESSAGE_CHARS_MAX else message[: MESSAGE_CHARS_MAX - 1] + "…")
    context.set_trailing_metadata(tuple(metadata))
    return status

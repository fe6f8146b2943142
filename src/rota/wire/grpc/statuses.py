"""Refusals in the words of gRPC and back: which of its statuses stands for which of HTTP, and which of them pass."""

from __future__ import annotations

from typing import Final

import grpc

__all__ = ["http_status", "is_passing", "status_code"]

_CODES: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ALREADY_EXISTS,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""As in the table that gRPC gives its users for gateways."""

_STATUSES: Final = {code: status for status, code in _CODES.items()}

_PASSING: Final = frozenset(
    {
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
    }
)


def status_code(status: int) -> grpc.StatusCode:
    """Return the status of gRPC that stands for one of HTTP.

    >>> status_code(401).name, status_code(418).name
    ('UNAUTHENTICATED', 'UNKNOWN')
    """
    return _CODES.get(status, grpc.StatusCode.UNKNOWN)


def http_status(code: grpc.StatusCode) -> int | None:
    """Return the status of HTTP for which one of gRPC stands, if there is one.

    >>> http_status(grpc.StatusCode.UNAVAILABLE), http_status(grpc.StatusCode.DATA_LOSS)
    (503, None)
    """
    return _STATUSES.get(code)


def is_passing(code: grpc.StatusCode) -> bool:
    """Say whether another try can succeed where this was the answer."""
    return code in _PASSING

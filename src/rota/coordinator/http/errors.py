"""How errors leave over HTTP: one form for all of them, and the status of each class.

Every error is ``{"error": "…", "code": "…", "details": …}``. ``details`` names the field and the
index for what is wrong with a task, and is ``null`` otherwise. What we did not expect is logged with its
traceback and answered without a word about our insides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from rota.coordinator.http.answers import Answer, Header, json_answer
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

__all__ = [
    "RETRY_AFTER",
    "STATUS_OF",
    "ErrorDetails",
    "ErrorJson",
    "allowed_only",
    "error_answer",
    "internal_error",
    "status_of",
    "upgrade_required",
]

STATUS_OF: Final[Mapping[type[RotaError], int]] = {
    BadRequest: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    Gone: 410,
    TooLarge: 413,
    Overloaded: 429,
    Unavailable: 503,
}
"""The status of each class of errors and of those derived from it."""

RETRY_AFTER_S: Final = 1
"""Asked of clients when we are full or away: group commits and fail-overs are a matter of seconds."""

RETRY_AFTER: Final[Header] = (b"retry-after", b"%d" % RETRY_AFTER_S)
"""The header that says so."""

_HEADERS_OF: Final[Mapping[int, tuple[Header, ...]]] = {
    401: ((b"www-authenticate", b"Bearer"),),
    429: (RETRY_AFTER,),
    503: (RETRY_AFTER,),
}


class ErrorDetails(Struct, frozen=True):
    """Where in a request the error is: the field if it is one, and the index if an array was sent."""

    field: str | None
    index: int | None


class ErrorJson(Struct, frozen=True):
    """Every error: a sentence for people, a stable code for programs, and where it was."""

    error: str
    code: str
    details: ErrorDetails | None


def status_of(error: type[RotaError]) -> int:
    """The status of a class of errors: its own, or that of the nearest class above it.

    >>> from rota.core.errors import BadSpec, StoreBroken
    >>> status_of(BadSpec), status_of(StoreBroken)
    (400, 503)
    """
    return next((STATUS_OF[cls] for cls in error.__mro__ if cls in STATUS_OF), 500)


def error_answer(error: RotaError) -> Answer:
    """Answer with an error that was foreseen."""
    field = error.field if isinstance(error, BadSpec) else None
    details = None if field is None and error.index is None else ErrorDetails(field, error.index)
    status = status_of(type(error))
    return _answer(status, ErrorJson(str(error), error.code, details), _HEADERS_OF.get(status, ()))


def allowed_only(methods: Iterable[str], *, path: str, method: str) -> Answer:
    """Answer to a method that this path does not know."""
    allowed = ", ".join(sorted(methods))
    error = ErrorJson(f"{path} does not take {method}: it takes {allowed}", "method_not_allowed", None)
    return _answer(405, error, ((b"allow", allowed.encode()),))


def upgrade_required(path: str) -> Answer:
    """Answer to a plain request where channels are opened: as a rule a proxy has taken the wish for one away."""
    error = ErrorJson(
        f"{path} is where workers and clients open a WebSocket, and this request did not ask for one: a proxy on the "
        "way must use HTTP/1.1 and pass on the headers Upgrade and Connection (docs/operations.md shows how)",
        "upgrade_required",
        None,
    )
    return _answer(426, error, ((b"upgrade", b"websocket"), (b"connection", b"upgrade")))


def internal_error() -> Answer:
    """Answer to what we did not foresee; the log has the rest."""
    error = "something went wrong inside the coordinator: its log says what"
    return _answer(500, ErrorJson(error, "internal", None), ())


def _answer(status: int, error: ErrorJson, headers: tuple[Header, ...]) -> Answer:
    return json_answer(status, error, headers=headers)

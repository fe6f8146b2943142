"""What a handler gives back, and how it goes out over ASGI.

An `Answer` is whole: status, headers, body. A `Stream` has its bytes still to come. Neither knows
anything of tasks; both are sent without a middleware in between, because a middleware costs more
than the whole rest of a small request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Final

import msgspec
from msgspec import Struct
from starlette.types import Scope, Send

__all__ = [
    "BINARY_TYPE",
    "JSON_TYPE",
    "NO_SNIFF",
    "TEXT_TYPE",
    "Answer",
    "Header",
    "Stream",
    "json_answer",
    "send_answer",
]

Header = tuple[bytes, bytes]

JSON_TYPE: Final[Header] = (b"content-type", b"application/json")
TEXT_TYPE: Final[Header] = (b"content-type", b"text/plain; charset=utf-8")
BINARY_TYPE: Final[Header] = (b"content-type", b"application/octet-stream")
NO_SNIFF: Final[Header] = (b"x-content-type-options", b"nosniff")
"""Output of tasks is text, also where it looks like a page: no browser may guess otherwise."""

_encoder = msgspec.json.Encoder()


class Answer(Struct, frozen=True, gc=False):
    """A whole response. ``headers`` has the content type; the length is added when it is sent."""

    status: int
    body: bytes
    headers: tuple[Header, ...] = (JSON_TYPE,)


class Stream(Struct, frozen=True):
    """A response whose body is still to come; its status is 200. ``length`` in bytes, where it is known."""

    chunks: AsyncIterator[bytes]
    headers: tuple[Header, ...]
    length: int | None = None


def json_answer(status: int, content: object, *, headers: Iterable[Header] = ()) -> Answer:
    """Answer with ``content`` (structs, lists, plain values) as JSON."""
    return Answer(status, _encoder.encode(content), (JSON_TYPE, *headers))


async def send_answer(answer: Answer, scope: Scope, send: Send) -> None:
    """Send a whole response; of one to HEAD only what stands before the body."""
    body = answer.body
    headers = [*answer.headers, NO_SNIFF, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

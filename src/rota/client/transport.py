"""Sends one request to a coordinator and turns whatever goes wrong into an error of ours.

The border to the HTTP library: nothing of it leaves this module but the answers themselves.
Every failure is an error of `rota.core.errors` with a sentence of one line. What changes
nothing, or is harmless twice (GET, DELETE), is sent once more when a kept-alive connection
turns out to be closed; a POST is not, since the coordinator may have acted on it.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import urljoin, urlsplit

import msgspec
import urllib3
from urllib3 import exceptions as http_errors
from urllib3.response import BaseHTTPResponse

from rota.core.errors import (
    BadRequest,
    BadSpec,
    Conflict,
    Forbidden,
    NoCoordinator,
    NotFound,
    Overloaded,
    RotaError,
    TooLarge,
    Unauthorized,
    Unavailable,
)

__all__ = ["CONNECTIONS_MAX", "READ_TIMEOUT_S", "Body", "Response", "Transport"]

Response = BaseHTTPResponse

Body = bytes | Sequence[bytes | memoryview]
"""Of a request. One in pieces is not copied; it needs a ``Content-Length``."""

CONNECT_TIMEOUT_S: Final = 5.0
READ_TIMEOUT_S: Final = 30.0
"""For an answer to begin. A commit takes milliseconds; a store that hangs should be noticed."""

RETRY_AFTER_S: Final = 1.0
"""Between tries when the coordinator takes nothing and does not say how long to wait."""

RETRY_AFTER_S_MAX: Final = 30.0

CONNECTIONS_MAX: Final = 4
"""`rota run` follows two streams while it waits, and may cancel meanwhile."""

CHUNK_BYTES: Final = 64 * 1024

_SOCKET_OPTIONS: Final = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # A followed log may be silent for days: the kernel finds out when the other side is gone.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
]

_ERROR_OF_STATUS: Final[Mapping[int, type[RotaError]]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    429: Overloaded,
    503: Unavailable,
}

_OF_PROXIES: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
"""What a proxy answers, not as we do, whose coordinator is away."""

_NEXT_LINK = re.compile(r'<([^<>]+)>\s*;[^,]*\brel="?next"?')


class Transport:
    """Kept-alive connections to one coordinator; safe to use from several threads.

    Args:
        url: Base URL, such as ``http://127.0.0.1:8080``.
        token: Sent with every request, if there is one.
        ca_file: The authority to trust for ``https``, instead of the system's.
        answer_s_max: How long any answer may take, connecting included; ``None`` leaves it to each request.

    Raises:
        BadRequest: The URL or the token can't be used.
    """

    def __init__(self, url: str, *, token: str | None, ca_file: str | None, answer_s_max: float | None = None) -> None:
        self.url = _checked_url(url)
        self._answer_s_max = answer_s_max
        self._headers = {"Accept": "application/json", "User-Agent": "rota-cli"}
        if token:
            self._headers["Authorization"] = f"Bearer {_checked_token(token)}"
        self._pool = urllib3.PoolManager(
            retries=False, maxsize=CONNECTIONS_MAX, socket_options=_SOCKET_OPTIONS, ca_certs=ca_file
        )

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._pool.clear()

    def send(
        self,
        method: str,
        path: str,
        *,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        read_timeout_s: float | None = READ_TIMEOUT_S,
        stream: bool = False,
    ) -> Response:
        """Send a request and return the answer, whatever its status; with ``stream``, its body is left unread."""
        with self._translating():
            try:
                return self._request(method, path, body, headers, read_timeout_s, stream)
            except http_errors.ProtocolError:
                if method == "POST":
                    raise
                return self._request(method, path, body, headers, read_timeout_s, stream)

    def decode(self, response: Response) -> Any:  # JSON of any shape: the callers check it
        """Return the JSON of an answer, or raise the error that it carries."""
        self.raise_for_status(response)
        try:
            return msgspec.json.decode(response.data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self.foreign(response) from None

    def chunks(self, response: Response) -> Iterator[bytes]:
        """Yield the body of an answer as it comes."""
        with self._translating():
            try:
                yield from response.stream(CHUNK_BYTES)
            finally:
                response.close()

    def raise_for_status(self, response: Response) -> None:
        """Raise the error that an answer carries, if it carries one."""
        if response.status < 300:
            return
        with self._translating():
            data = response.data
        try:
            answer = msgspec.json.decode(data, type=_ErrorAnswer)
        except msgspec.MsgspecError:
            raise self.foreign(response) from None
        raise _error_of(response.status, answer)

    def foreign(self, response: Response) -> RotaError:
        """Return the error for an answer that no coordinator would give."""
        if response.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return TooLarge(
                f"what is before the coordinator at {self.url} takes no request of this size: let that proxy take as "
                "much as the coordinator does (nginx: client_max_body_size 1g)"
            )
        if response.status in _OF_PROXIES:
            return NoCoordinator(
                f"{self.url} is a proxy that can't reach its coordinator (status {response.status}): see if that runs"
            )
        return NoCoordinator(
            f"{self.url} answered with status {response.status}, but not as a Rota coordinator does: check ROTA_URL"
        )

    def _request(
        self,
        method: str,
        path: str,
        body: Body | None,
        headers: Mapping[str, str] | None,
        read_timeout_s: float | None,
        stream: bool,
    ) -> Response:
        content = {"Content-Type": "application/json"} if body is not None else {}
        return self._pool.request(
            method,
            self.url + path,
            # In pieces it goes to the socket as it is, which takes any buffer.
            body=cast("bytes | None", body),
            headers={**self._headers, **content, **(headers or {})},
            timeout=urllib3.Timeout(total=self._answer_s_max, connect=CONNECT_TIMEOUT_S, read=read_timeout_s),
            preload_content=not stream,
            # A redirect could carry the token elsewhere.
            redirect=False,
        )

    @contextmanager
    def _translating(self) -> Iterator[None]:
        """Turn errors of the library into ours."""
        try:
            yield
        except (http_errors.NewConnectionError, http_errors.ConnectTimeoutError) as error:
            raise NoCoordinator(
                f"no coordinator answers at {self.url}: start one with 'rota up' or set ROTA_URL"
            ) from error
        except http_errors.ReadTimeoutError as error:
            raise _unanswered(f"the coordinator at {self.url} has stopped answering") from error
        except http_errors.SSLError as error:
            raise NoCoordinator(f"no secure connection to {self.url}: {error}") from error
        except (http_errors.HTTPError, OSError) as error:
            raise _unanswered(f"the connection to {self.url} broke before the answer was complete") from error


def _unanswered(message: str) -> NoCoordinator:
    error = NoCoordinator(message)
    error.may_have_arrived = True
    return error


class _ErrorAnswer(msgspec.Struct):
    error: str
    code: str = "error"
    details: Any = None  # of any shape: each code has its own


def retry_after_s(response: Response) -> float:
    """Return how long the coordinator asks to wait before the same request is sent again."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), RETRY_AFTER_S_MAX) if text.isascii() and text.isdigit() else RETRY_AFTER_S


def next_path(response: Response, path: str) -> str | None:
    """Return the path of the next page, if there is one.

    Only path and query are taken from the link: the token goes to our coordinator alone.
    """
    match = _NEXT_LINK.search(response.headers.get("Link", ""))
    if match is None:
        return None
    parts = urlsplit(urljoin(path, match[1]))
    return f"{parts.path}?{parts.query}"


def _error_of(status: int, answer: _ErrorAnswer) -> RotaError:
    details = answer.details if isinstance(answer.details, dict) else {}
    field, index = details.get("field"), details.get("index")
    if answer.code == BadSpec.code and isinstance(field, str) and isinstance(index, int | None):
        where = f"task {index}: {field}: " if index is not None else f"{field}: "
        return BadSpec(field, answer.error.removeprefix(where), index=index)
    if not isinstance(index, int):
        return _ERROR_OF_STATUS.get(status, RotaError)(answer.error, code=answer.code)
    error = _ERROR_OF_STATUS.get(status, RotaError)(answer.error.removeprefix(f"task {index}: "), code=answer.code)
    error.say_index(index)
    return error


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_sane = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_sane = False
    if not is_sane or not url.isprintable() or " " in url:
        raise BadRequest(f"{url!r} is not the URL of a coordinator: write http://host:port")
    return url.rstrip("/")


def _checked_token(token: str) -> str:
    if not token.isascii() or not token.isprintable():
        raise BadRequest("the token has characters that no header can carry: it must be printable ASCII")
    return token

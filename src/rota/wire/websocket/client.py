"""The end of those who connect: workers, and whoever else speaks to a coordinator.

`connect` opens one channel or says in one line why it can't. It tries once: how long to wait before the next
try is the caller's to decide (``rota.wire.backoff``). Every error of the network, of TLS and of the
handshake is translated here into a `ChannelError`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from http import HTTPStatus
from pathlib import Path
from typing import Final, Generic, TypeVar
from urllib.parse import SplitResult, urlsplit

import msgspec
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response
from websockets.uri import WebSocketURI

from rota.wire.channel import CHANNEL_PATH, Channel, ChannelError, ChannelHandler
from rota.wire.messages import LARGE_BYTES_MAX, Codec
from rota.wire.websocket.connection import LIBRARY_LOG, Connection

__all__ = ["connect"]

CLIENT_BACKLOG_BYTES_MAX: Final = 1 << 30
"""A backstop: an agent keeps all that is unacknowledged anyway, and bounds that by itself."""

_SENTENCE_CHARS_MAX: Final = 300
"""Of a refusal's text: one line for people, whatever a foreign server answers."""

_RETRYABLE_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}

In = TypeVar("In")
Out = TypeVar("Out")


async def connect(
    url: str,
    handler: ChannelHandler[In, Out],
    *,
    codec: Codec[In, Out],
    token: str | None,
    timeout_s: float,
    ca_file: Path | None = None,
    verify: bool = True,
) -> Channel[Out]:
    """Open a channel to the coordinator at ``url``.

    ``handler.opened`` has been called when this returns. When it raises, the handler was not opened
    or (if the time was over in that very moment) is closed again.

    Args:
        url: The base URL: ``http://host[:port]`` or ``https://…``, with a path if it stands behind a proxy.
        handler: What becomes of the messages.
        codec: The worker's.
        token: Sent as a bearer token.
        timeout_s: For everything together: name, connection, TLS and handshake.
        ca_file: On https, trusted instead of this system's authorities.
        verify: On https, ``False`` trusts anybody.

    Raises:
        ChannelError: It could not be opened; says whether another try can help.
    """
    loop = asyncio.get_running_loop()
    target = _parse(url)
    tls = _tls_context(ca_file, verify) if target.scheme == "https" else None
    try:
        async with asyncio.timeout(timeout_s):
            sock = await _dial(target, timeout_s)
            connection = _ClientConnection(target, handler, codec=codec, token=token)
            host = target.hostname if tls else None
            await loop.create_connection(lambda: connection, sock=sock, ssl=tls, server_hostname=host)
            await connection.greet()
    except TimeoutError as error:
        raise ChannelError(f"no answer from {url} within {timeout_s:g} s", retryable=True) from error
    except OSError as error:
        raise _explain(error, target) from error
    return connection


class _ClientConnection(Connection[In, Out], Generic[In, Out]):
    def __init__(
        self, target: SplitResult, handler: ChannelHandler[In, Out], *, codec: Codec[In, Out], token: str | None
    ) -> None:
        self._rules = ClientProtocol(_websocket_uri(target), max_size=LARGE_BYTES_MAX, logger=LIBRARY_LOG)
        super().__init__(self._rules, codec, backlog_bytes_max=CLIENT_BACKLOG_BYTES_MAX)
        self._target = target
        self._token = token
        self._handler_to_be = handler
        self._greeting: asyncio.Future[None] = self._loop.create_future()

    async def greet(self) -> None:
        """Do the handshake. Raises `ChannelError`; leaves no connection behind unless it succeeds."""
        request = self._rules.connect()
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        self._rules.send_request(request)
        self._write()
        try:
            await self._greeting
        except BaseException:
            self._transport.abort()
            raise

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._check_greeting()

    def eof_received(self) -> None:
        super().eof_received()
        self._check_greeting()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._refuse(_cut_short(self._target, exc))

    def _greeted(self, _: Request | Response) -> None:
        if self._rules.handshake_exc is None and not self._greeting.done():
            self._greeting.set_result(None)
            self._open(self._handler_to_be)

    def _check_greeting(self) -> None:
        if self._rules.handshake_exc is not None:
            self._refuse(_refused(self._rules.handshake_exc, self._target))

    def _refuse(self, error: ChannelError) -> None:
        """Let the handshake fail, if it is not over."""
        if not self._greeting.done():
            self._greeting.set_exception(error)
            self._greeting.exception()  # marks it as seen: `greet` may have been cancelled, and asyncio would complain


async def _dial(target: SplitResult, timeout_s: float) -> socket.socket:
    """Connect to the first address of the host that answers; each has its share of the time."""
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(*_host_and_port(target), type=socket.SOCK_STREAM)
    failures: list[OSError] = []
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(timeout_s / len(addresses)):
                await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failures.append(error)
        except asyncio.CancelledError:
            sock.close()
            raise
        else:
            return sock
    raise failures[-1]


# What was given -------------------------------------------------------------------------------


def _parse(url: str) -> SplitResult:
    """Read a base URL.

    >>> _parse("ftp://example.org")
    Traceback (most recent call last):
    rota.wire.channel.ChannelError: 'ftp://example.org' is not the URL of a coordinator: it looks like http://host:8080
    """
    try:
        target = urlsplit(url)
        _host_and_port(target)
        if target.scheme in _DEFAULT_PORTS and target.hostname and target.hostname.encode("idna"):
            return target
    except ValueError:
        pass  # a port that is no number, a bracket that is not closed, a name that can be none: said below
    raise ChannelError(f"{url!r} is not the URL of a coordinator: it looks like http://host:8080", retryable=False)


def _host_and_port(target: SplitResult) -> tuple[str, int]:
    return target.hostname or "", target.port or _DEFAULT_PORTS.get(target.scheme, 0)


def _websocket_uri(target: SplitResult) -> WebSocketURI:
    """Where the channel of a base URL is.

    >>> _websocket_uri(urlsplit("https://rota.example/cluster/")).resource_name
    '/cluster/api/v1/channel'
    """
    host, port = _host_and_port(target)
    path = target.path.rstrip("/") + CHANNEL_PATH
    return WebSocketURI(target.scheme == "https", host, port, path, "", None, None)


def _tls_context(ca_file: Path | None, verify: bool) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ChannelError(f"can't use the certificates in {ca_file}: {error}", retryable=False) from error
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


# What went wrong ------------------------------------------------------------------------------


def _explain(error: OSError, target: SplitResult) -> ChannelError:
    """Translate what the network or TLS said."""
    url = target.geturl()
    match error:
        case socket.gaierror():
            return ChannelError(f"no host {target.hostname!r} for {url}: {error.strerror}", retryable=True)
        case ConnectionRefusedError():
            return ChannelError(f"nobody listens at {url}", retryable=True)
        case ssl.SSLCertVerificationError():
            return ChannelError(f"{url} is not trusted: {error.verify_message}", retryable=False)
        case ssl.SSLError():
            return ChannelError(f"{url} does not speak TLS as it should: {error.reason or error}", retryable=True)
        case _:
            return ChannelError(f"can't reach {url}: {error.strerror or error}", retryable=True)


def _refused(problem: Exception, target: SplitResult) -> ChannelError:
    """Translate what the server answered to the handshake."""
    url = target.geturl()
    if isinstance(problem, InvalidStatus):
        status = problem.response.status_code
        words = f"{status} {_phrase(status)}".strip()
        sentence = _sentence(problem.response.body)
        why = f"{sentence} ({words})" if sentence else words
        return ChannelError(f"{url} refused the channel: {why}", retryable=status in _RETRYABLE_STATUSES, status=status)
    if isinstance(problem.__cause__, EOFError):
        return _cut_short(target, None)
    return ChannelError(f"{url} does not answer like a coordinator: {problem}", retryable=False)


def _cut_short(target: SplitResult, error: Exception | None) -> ChannelError:
    why = f": {error}" if error else ""
    return ChannelError(f"{target.geturl()} cut the connection during the handshake{why}", retryable=True)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _sentence(body: bytes | bytearray) -> str:
    r"""The sentence of an error: of ours its ``error``, of a foreign one the text as far as it fits a line.

    >>> _sentence(b'{"error": "a token is asked for", "code": "unauthorized"}')
    'a token is asked for'
    >>> _sentence(b"Bad\nGateway")
    'Bad Gateway'
    """
    try:
        text = msgspec.json.decode(body, type=_ErrorBody).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = body.decode("utf-8", "replace")
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:_SENTENCE_CHARS_MAX]


class _ErrorBody(msgspec.Struct):
    error: str

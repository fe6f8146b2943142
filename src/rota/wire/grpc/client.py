"""The end of those who connect over gRPC.

`connect` opens one channel or says in one line why it can't, like its twin of WebSocket. It tries once: how long to
wait before the next try is the caller's to decide (``rota.wire.backoff``), not gRPC's. Every error of the network,
of TLS and of gRPC is translated here into a `ChannelError`.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path
from typing import Any, Final, Generic, TypeVar
from urllib.parse import SplitResult, urlsplit

import grpc
from grpc import aio

from rota.wire.channel import GRPC_PORT, Channel, ChannelError, ChannelHandler
from rota.wire.grpc.connection import CHANNEL_OPTIONS, CLOSE_GRACE_S, StreamConnection, StreamLost
from rota.wire.grpc.frames import ACCEPTED, FRAME_BYTES_MAX, METHOD
from rota.wire.grpc.statuses import http_status, is_passing
from rota.wire.messages import Codec

__all__ = ["connect"]

CLIENT_BACKLOG_BYTES_MAX: Final = 1 << 30
"""A backstop: an agent keeps all that is unacknowledged anyway, and bounds that by itself."""

CLIENT_OPTIONS: Final = (
    *CHANNEL_OPTIONS,
    ("grpc.max_receive_message_length", FRAME_BYTES_MAX),
    # One connection for each try, begun anew: a shared one would remember for minutes that nobody was there.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    # Like our WebSocket, which goes where it is told to whatever HTTP proxies the environment names.
    ("grpc.enable_http_proxy", 0),
)

_SENTENCE_CHARS_MAX: Final = 300
"""Of a refusal's text: one line for people, whatever a foreign server answers."""

_SCHEMES: Final = frozenset({"grpc", "grpcs"})

_NO_CONNECTION: Final = re.compile("failed to connect to all addresses; last error: |errors resolving ")
"""How gRPC begins when it has not reached anybody."""

_TROUBLES: Final = (
    (re.compile("Connection refused"), "nobody listens at {url}", True),
    (re.compile("address lookup failed|[Nn]ame resolution"), "no host {host!r} for {url}", True),
    (re.compile("CERTIFICATE_VERIFY_FAILED: ([^:]*)"), "{url} is not trusted: {0}", False),
    (re.compile("Hostname Verification"), "{url} is not trusted: its certificate is for another name", False),
    (re.compile("[Hh]andshake"), "{url} does not speak TLS as it should", True),
    (re.compile("Failed parsing HTTP/2"), "{url} does not answer like a coordinator: it does not speak gRPC", False),
    (re.compile("Socket closed|reset by peer"), "{url} cut the connection during the handshake", True),
)
"""What is in gRPC's words, what we say, and whether another try can help; the first that fits."""

_WRITE_FAILED: Final = "Internal error from Core"
"""What gRPC says of a stream that was lost while something was written, instead of why."""

In = TypeVar("In")
Out = TypeVar("Out")

Call = aio.StreamStreamCall[bytes, bytes]


async def connect(
    url: str,
    handler: ChannelHandler[In, Out],
    *,
    codec: Codec[In, Out],
    token: str | None,
    timeout_s: float,
    ca_file: Path | None = None,
) -> Channel[Out]:
    """Open a channel to the coordinator at ``url``.

    ``handler.opened`` has been called when this returns. When it raises, the handler was not opened. To trust
    anybody, as the WebSocket can be told to, is more than gRPC knows how to.

    Args:
        url: ``grpc://host[:port]``, or ``grpcs://…`` with TLS.
        handler: What becomes of the messages.
        codec: The worker's.
        token: Sent as a bearer token.
        timeout_s: For everything together: name, connection, TLS and the coordinator's answer.
        ca_file: With TLS, trusted instead of this system's authorities.

    Raises:
        ChannelError: It could not be opened; says whether another try can help.
    """
    target = _parse(url)
    line = _line(target, ca_file)
    try:
        async with asyncio.timeout(timeout_s):
            call = await _call(line, target, token)
    except BaseException as error:
        await line.close()
        if isinstance(error, TimeoutError):
            raise ChannelError(f"no answer from {url} within {timeout_s:g} s", retryable=True) from error
        raise
    stream = _ClientStream(line, call, codec=codec, peer=target.netloc)
    stream.begin(handler)
    return stream


class _ClientStream(StreamConnection[In, Out], Generic[In, Out]):
    def __init__(self, line: aio.Channel, call: Call, *, codec: Codec[In, Out], peer: str) -> None:
        super().__init__(codec, peer=peer, backlog_bytes_max=CLIENT_BACKLOG_BYTES_MAX)
        self._line = line
        self._call = call
        self._living: asyncio.Task[None] | None = None  # asyncio itself holds a task only weakly

    def begin(self, handler: ChannelHandler[In, Out]) -> None:
        """Be a channel from now on."""
        self._open(handler)
        self._living = self._loop.create_task(self._live_and_leave())

    async def _live_and_leave(self) -> None:
        try:
            await self._live()
            await self._leave()
        finally:
            await self._line.close()
            self._living = None

    async def _leave(self) -> None:
        """Let the coordinator see a proper end, if it still listens."""
        try:
            async with asyncio.timeout(CLOSE_GRACE_S):
                await self._end_writing()
                await self._call.code()
        except (TimeoutError, StreamLost):
            self._call.cancel()

    async def _read_frame(self) -> bytes | None:
        try:
            frame: Any = await self._call.read()
        except aio.AioRpcError as error:
            said = error.details() or error.code().name
            raise StreamLost("it broke off" if said == _WRITE_FAILED else _sentence(said)) from None
        return None if frame is aio.EOF else frame

    async def _write_frame(self, frame: bytes) -> None:
        try:
            await self._call.write(frame)
        except (aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise StreamLost(str(error)) from None

    async def _end_writing(self) -> None:
        try:
            await self._call.done_writing()
        except (aio.AioRpcError, aio.BaseError) as error:
            raise StreamLost(str(error)) from None


def _line(target: SplitResult, ca_file: Path | None) -> aio.Channel:
    """Make what gRPC calls a channel: the connection under our stream."""
    address = f"dns:///{target.netloc}" if target.port else f"dns:///{target.netloc}:{GRPC_PORT}"
    if target.scheme == "grpc":
        return aio.insecure_channel(address, options=CLIENT_OPTIONS)
    return aio.secure_channel(address, grpc.ssl_channel_credentials(_authorities(ca_file)), options=CLIENT_OPTIONS)


async def _call(line: aio.Channel, target: SplitResult, token: str | None) -> Call:
    """Open the stream; return it when the coordinator has accepted it."""
    metadata = (("authorization", f"Bearer {token}"),) if token is not None else ()
    call: Call = line.stream_stream(METHOD)(metadata=aio.Metadata(*metadata))
    sign, wanted = ACCEPTED
    if (await call.initial_metadata()).get(sign) != wanted:  # then its status is there, or about to be
        code, details = await call.code(), await call.details()
        raise _explain(code, details or "", target)
    return call


# What was given -------------------------------------------------------------------------------


def _parse(url: str) -> SplitResult:
    """Read an address.

    >>> _parse("http://example.org:8080")
    Traceback (most recent call last):
    rota.wire.channel.ChannelError: 'http://example.org:8080' is not where a coordinator speaks gRPC: that looks like \
grpc://host:50051
    """
    try:
        target = urlsplit(url)
        is_bare = target.path in {"", "/"} and not target.query and "@" not in target.netloc
        if target.scheme in _SCHEMES and is_bare and target.port != 0 and (target.hostname or "").encode("idna"):
            return target
    except ValueError:
        pass  # a port that is no number, a bracket that is not closed, a name that can be none: said below
    raise ChannelError(
        f"{url!r} is not where a coordinator speaks gRPC: that looks like grpc://host:{GRPC_PORT}", retryable=False
    )


def _authorities(ca_file: Path | None) -> bytes | None:
    """Return whom to trust as PEM: by default this system's authorities, or gRPC's own list if there are none."""
    try:
        found = ssl.create_default_context(cafile=ca_file).get_ca_certs(binary_form=True)
    except OSError as error:
        raise ChannelError(f"can't use the certificates in {ca_file}: {error}", retryable=False) from error
    return "".join(map(ssl.DER_cert_to_PEM_cert, found)).encode() or None


# What went wrong ------------------------------------------------------------------------------


def _explain(code: grpc.StatusCode, details: str, target: SplitResult) -> ChannelError:
    """Translate what gRPC, or the coordinator through it, has said instead of opening a channel.

    gRPC has no other sign than its words for what is wrong with a connection: words that it changes some day are
    passed on as they are.
    """
    url, said = target.geturl(), _sentence(details)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return ChannelError(f"{url} has no channel for workers: {said} ({code.name})", retryable=False, status=501)
    if code is not grpc.StatusCode.UNAVAILABLE or not _NO_CONNECTION.match(said):
        words = f"{url} refused the channel: {said} ({code.name})"
        return ChannelError(words, retryable=is_passing(code), status=http_status(code))
    for pattern, sentence, retryable in _TROUBLES:
        if match := pattern.search(said):
            return ChannelError(sentence.format(*match.groups(), url=url, host=target.hostname), retryable=retryable)
    return ChannelError(f"can't reach {url}: {_NO_CONNECTION.sub('', said)}", retryable=True)


def _sentence(text: str) -> str:
    r"""A text as far as it fits a line.

    >>> _sentence("Bad\nGateway")
    'Bad Gateway'
    """
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:_SENTENCE_CHARS_MAX]

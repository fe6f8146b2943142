"""Lines to a coordinator: what every kind of call goes over, and why one can't be had, in a sentence.

A line is what gRPC calls a channel: a connection that is opened when a call needs it. Here it is seen to that all go
to the same address by the same means, and fail in the same words.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

import grpc
from grpc import aio

from rota.wire.channel import GRPC_PORT, ChannelError
from rota.wire.grpc.connection import CHANNEL_OPTIONS

__all__ = ["LINE_OPTIONS", "Unreached", "bearer", "find_trouble", "one_line", "open_line", "parse_target"]

LINE_OPTIONS: Final = (
    *CHANNEL_OPTIONS,
    # Each line is a connection of its own: one that is shared is as slow for all as what is heaviest on it, and would
    # remember for minutes that nobody was there.
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


class Unreached(NamedTuple):
    """Why nobody was reached; ``retryable`` if another try can."""

    sentence: str
    retryable: bool


def open_line(target: SplitResult, ca_file: Path | None, *, options: Sequence[tuple[str, int]]) -> aio.Channel:
    """Make a line; nothing is connected yet.

    Args:
        target: As `parse_target` gives it.
        ca_file: With TLS, trusted instead of this system's authorities.
        options: Of gRPC, `LINE_OPTIONS` among them.

    Raises:
        ChannelError: The authorities can't be read.
    """
    address = f"dns:///{target.netloc}" if target.port else f"dns:///{target.netloc}:{GRPC_PORT}"
    if target.scheme == "grpc":
        return aio.insecure_channel(address, options=options)
    return aio.secure_channel(address, grpc.ssl_channel_credentials(_authorities(ca_file)), options=options)


def bearer(token: str | None) -> aio.Metadata:
    """Return what a call says of itself where a token is asked for."""
    return aio.Metadata(*([("authorization", f"Bearer {token}")] if token is not None else []))


# What was given -------------------------------------------------------------------------------


def parse_target(url: str) -> SplitResult:
    """Read an address: ``grpc://host[:port]``, or ``grpcs://…`` with TLS.

    >>> parse_target("http://example.org:8080")
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


def find_trouble(code: grpc.StatusCode, details: str, target: SplitResult) -> Unreached | None:
    """Translate what gRPC says when it has reached nobody; ``None`` if somebody has answered.

    It has no other sign than its words for what is wrong with a connection: words that it changes some day are
    passed on as they are.
    """
    said = one_line(details)
    if code is not grpc.StatusCode.UNAVAILABLE or not _NO_CONNECTION.match(said):
        return None
    url = target.geturl()
    for pattern, sentence, retryable in _TROUBLES:
        if match := pattern.search(said):
            return Unreached(sentence.format(*match.groups(), url=url, host=target.hostname), retryable)
    return Unreached(f"can't reach {url}: {_NO_CONNECTION.sub('', said)}", retryable=True)


def one_line(text: str) -> str:
    r"""A text as far as it fits a line.

    >>> one_line("Bad\nGateway")
    'Bad Gateway'
    """
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:_SENTENCE_CHARS_MAX]

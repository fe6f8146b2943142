"""Who may speak to the coordinator: the check before every request and every WebSocket handshake.

A coordinator on loopback can be reached by every page that a browser on the machine shows, so being
local is no credential. Three questions, in this order, reads included, and denied unless answered:

1. ``Host`` names us: else a foreign name was made to point at us (DNS rebinding). 403 `forbidden_host`.
2. ``Origin`` and ``Sec-Fetch-Site``, which only browsers send, say that the page is ours: else 403
   `forbidden_origin`. Clients that send neither are not browsers and pass, whatever they send. Behind a proxy
   ``X-Forwarded-Proto`` tells the scheme that the browser sees: a foreign page can't send it along, since a
   browser asks first whether it may, and nobody here says yes.
3. The token is right, where one is configured: else 401. Only ``/healthz`` is open without it.

Plain code on the raw headers, because it runs before each of some ten thousand requests a second.
"""

from __future__ import annotations

import hmac
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

from rota.core.errors import BadRequest, Forbidden, Unauthorized

__all__ = ["OPEN_PATHS", "Guard", "GuardConfig", "check_headers"]

OPEN_PATHS: Final = frozenset({"/healthz"})
"""Asked by supervisors that have no token; says nothing but that the process lives."""

KNOWN_HOSTS_MAX: Final = 64
"""Values of ``Host`` that were checked before and are remembered: bounded, since clients choose them."""

_LOOPBACK_NAMES: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})
_OWN_SITES: Final = frozenset({b"same-origin", b"none"})
_SCHEMES: Final = {"ws": "http", "wss": "https"}
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_FORWARDED_SCHEMES: Final = {b"http": "http", b"https": "https"}
_WATCHED: Final = frozenset({b"host", b"origin", b"sec-fetch-site", b"authorization", b"x-forwarded-proto"})


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """What the guard goes by.

    Args:
        host: The address or name that the server is bound to. Bound to all addresses, any address
            as ``Host`` is ours, and so is the machine's name.
        allowed_hosts: Further names, without port (``--allow-host``).
        token: What ``Authorization: Bearer`` must carry, if anything.
        more_tokens: What it may carry instead.
        hostname: The name of this machine.
    """

    host: str = "127.0.0.1"
    allowed_hosts: frozenset[str] = frozenset()
    token: str | None = field(default=None, repr=False)
    more_tokens: tuple[str, ...] = field(default=(), repr=False)
    hostname: str = field(default_factory=socket.gethostname)

    def __post_init__(self) -> None:
        if self.token is not None and (not self.token.isascii() or not self.token.isprintable() or " " in self.token):
            raise BadRequest("the token must be printable ASCII without spaces, since it travels in a header")
        if self.token == "":
            raise BadRequest("the token is empty: leave it out to have none")


class Guard:
    """The check, with what it needs made ready."""

    __slots__ = ("_any_address", "_known_hosts", "_names", "_tokens")

    def __init__(self, config: GuardConfig) -> None:
        self._any_address = _is_unspecified(config.host)
        names = {*_LOOPBACK_NAMES, *config.allowed_hosts, config.host}
        if self._any_address:
            names |= {config.hostname, config.hostname.split(".", 1)[0]}
        self._names = frozenset(_plain_name(name) for name in names if name)
        self._tokens: tuple[bytes, ...] = ()
        if config.token is not None:
            self.use_tokens((config.token, *config.more_tokens))
        self._known_hosts: set[bytes] = set()

    def use_tokens(self, tokens: Sequence[str]) -> None:
        """Take these from now on, and no other. At least one."""
        assert tokens, "without a token everybody would be let in"
        self._tokens = tuple(token.encode() for token in tokens)

    def check(self, headers: Iterable[tuple[bytes, bytes]], *, path: str, scheme: str) -> None:
        """Raise unless the request may pass. Names of headers are in lower case, as in ASGI.

        Raises:
            Forbidden: The host or the origin is not ours.
            Unauthorized: The token is missing or wrong.
        """
        host = origin = site = authorization = forwarded = None
        for name, value in headers:
            if name not in _WATCHED:
                continue
            if name == b"host":
                host = _only_one(host, value)
            elif name == b"origin":
                origin = _only_one(origin, value)
            elif name == b"sec-fetch-site":
                site = _only_one(site, value)
            elif name == b"authorization":
                authorization = _only_one(authorization, value)
            else:
                forwarded = _only_one(forwarded, value)
        if host is None or host not in self._known_hosts:
            self._check_host(host)
        if site is not None or origin is not None:
            outside = _FORWARDED_SCHEMES.get((forwarded or b"").partition(b",")[0].strip().lower(), scheme)
            _check_origin(origin, site, ours=_origin(outside, (host or b"").decode("latin-1")))
        if path not in OPEN_PATHS:
            self.check_token(authorization)

    def _check_host(self, host: bytes | None) -> None:
        if host is None:
            raise Forbidden("the request has no Host header", code="forbidden_host")
        name = _plain_name(_split_host(host.decode("latin-1"))[0])
        if not (name in self._names or self._is_own_address(name)):
            raise Forbidden(
                f"{name!r} is not a name of this coordinator: start it with --allow-host {name} if it is",
                code="forbidden_host",
            )
        if len(self._known_hosts) < KNOWN_HOSTS_MAX:
            self._known_hosts.add(host)

    def _is_own_address(self, name: str) -> bool:
        try:
            address = ip_address(name)
        except ValueError:
            return False
        return self._any_address or address.is_loopback

    def check_token(self, authorization: bytes | None) -> None:
        """Raise unless the token is right or none is asked for: all that there is to check without a browser.

        Raises:
            Unauthorized: It is missing or wrong.
        """
        if not self._tokens:
            return
        if authorization is None:
            raise Unauthorized("a token is asked for: send `Authorization: Bearer …` (ROTA_TOKEN)")
        scheme, _, given = authorization.partition(b" ")
        # Compared in constant time, so that the time taken does not tell how much of a guess was right.
        shown = given.strip()
        matches = sum(hmac.compare_digest(shown, token) for token in self._tokens)  # all are tried, whichever it is
        if not matches or scheme.lower() != b"bearer":
            raise Unauthorized("the token is wrong: send the coordinator's as `Authorization: Bearer …` (ROTA_TOKEN)")


def check_headers(guard: Guard, headers: Iterable[tuple[bytes, bytes]], *, path: str, scheme: str = "ws") -> None:
    """Check a WebSocket handshake, with header names in any case; raises what `Guard.check` does."""
    guard.check(((name.lower(), value) for name, value in headers), path=path, scheme=scheme)


def _check_origin(origin: bytes | None, site: bytes | None, *, ours: str) -> None:
    if site is not None and site.lower() not in _OWN_SITES:
        raise Forbidden("the request comes from a page of another site", code="forbidden_origin")
    if origin is None:
        return
    scheme, separator, host = origin.decode("latin-1").partition("://")
    if not separator or _origin(scheme, host) != ours:
        raise Forbidden("the request comes from a page of another origin", code="forbidden_origin")


def _only_one(seen: bytes | None, value: bytes) -> bytes:
    """Two of them may mean one thing to us and another to a proxy before us."""
    if seen is not None:
        raise Forbidden("a header that must be there once is there twice", code="forbidden_host")
    return value


def _origin(scheme: str, host: str) -> str:
    """Scheme, name and port in one spelling: the port always there, letters small.

    >>> _origin("ws", "LOCALHOST:8080"), _origin("https", "rota.example"), _origin("http", "[::1]:80")
    ('http://localhost:8080', 'https://rota.example:443', 'http://::1:80')
    """
    scheme = scheme.lower()
    scheme = _SCHEMES.get(scheme, scheme)
    name, port = _split_host(host)
    return f"{scheme}://{_plain_name(name)}:{port or _DEFAULT_PORTS.get(scheme, '')}"


def _split_host(host: str) -> tuple[str, str]:
    """The name and the port (maybe empty) of a ``Host`` header.

    >>> _split_host("[::1]:8080"), _split_host("localhost"), _split_host("a:1:2")
    (('::1', '8080'), ('localhost', ''), ('a:1:2', ''))
    """
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        return name, rest.removeprefix(":")
    name, separator, port = host.rpartition(":")
    return (name, port) if separator and ":" not in name else (host, "")


def _plain_name(name: str) -> str:
    return name.strip("[]").removesuffix(".").lower()


def _is_unspecified(host: str) -> bool:
    try:
        return not host or ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        return False

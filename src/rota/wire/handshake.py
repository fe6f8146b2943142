"""How a channel is asked for and refused, whatever transport it comes by.

Who may open one is the coordinator's to say: it sees each `Handshake`, and answers with the handler of the new channel
or with a `Refusal`, which the transport puts into its own words.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Handshake", "Refusal"]


@dataclass(frozen=True, slots=True)
class Handshake:
    """A wish to open a channel.

    ``headers`` and ``scheme`` (``ws`` or ``wss``, ``grpc`` or ``grpcs``) are as in an ASGI scope (names in lower case,
    in the order of arrival), so that the same guard looks at them and at those of REST. Of gRPC the headers
    are its metadata, without ``host``.
    """

    scheme: str
    path: str
    query: str
    headers: list[tuple[bytes, bytes]]
    peer: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a channel is not opened: an HTTP status, and the error as REST would give it."""

    status: int
    code: str
    message: str

"""Reads a stream of server-sent events: bytes in, the data of each event out.

A pure function of the bytes, however they were cut. Only what the coordinator sends is
read: ``data`` lines, joined, and a blank line to end an event; ids and types are in the data
as well, and comments are signs of life.

References:
    WHATWG, "Server-sent events", HTML Living Standard, section 9.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from rota.core.errors import NoCoordinator

__all__ = ["parse_events"]

EVENT_BYTES_MAX: Final = 1 << 20
"""Far over any event of ours: more means that this is no stream of events."""


def parse_events(chunks: Iterable[bytes]) -> Iterator[str]:
    r"""Yield the data of each complete event.

    >>> list(parse_events([b": hello\n\nid: 1\nda", b"ta: {}\n\ndata: cut"]))
    ['{}']
    """
    data: list[str] = []
    for line in _lines(chunks):
        if not line:
            if data:
                yield "\n".join(data)
            data = []
        elif line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" ").decode("utf-8", "replace"))


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield complete lines without their ends (LF or CRLF)."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r")
        if len(rest) > EVENT_BYTES_MAX:
            raise NoCoordinator(f"a line of the event stream is over {EVENT_BYTES_MAX:,} bytes: this is no coordinator")

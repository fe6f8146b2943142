"""Reads tasks from a file and cuts them into requests, without ever holding the whole file.

A file holds JSON lines (one task a line), one task over several lines, or one array. Only lines
are streamed; the other two are read whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, Final

import msgspec
from msgspec import Struct

from rota.core.errors import BadRequest, TooLarge

__all__ = ["Batch", "PlacedSpec", "cut_into_batches", "read_specs"]

BATCH_TASKS_MAX: Final = 1000
"""One commit for so many: more is hardly quicker, and the first ids come later. The API takes 10,000."""

BATCH_BYTES_MAX: Final = 4 << 20
"""Well under the 8 MiB that the API takes."""

REQUEST_BYTES_MAX: Final = 8 << 20
"""What the API takes: one task that is larger is sent to nobody, who could not say which it is."""

NOT_JSON: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What reading raises: the last where brackets are nested without end."""

Spec = dict[str, Any]


class PlacedSpec(Struct, frozen=True):
    """A task of a file, and where it stands: ``line 4`` (from 1), or ``task 3 (line 7)`` of an array (from 0)."""

    place: str
    spec: Spec


class Batch(Struct, frozen=True):
    """Tasks of one request, as a JSON array; ``places`` say where they stand in the file."""

    places: list[str]
    body: bytes

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.places)

    def specs(self) -> list[Spec]:
        """The tasks as they were sent."""
        return msgspec.json.decode(self.body, type=list[Spec])


def read_specs(file: BinaryIO, defaults: Mapping[str, Any]) -> Iterator[PlacedSpec]:
    """Yield the tasks in a file, each with what it leaves out taken from ``defaults``.

    Raises:
        BadRequest: It is not JSON, or holds something else than objects; names the line.
    """
    for placed in _objects(file):
        yield PlacedSpec(placed.place, {**defaults, **placed.spec})


def cut_into_batches(specs: Iterable[PlacedSpec]) -> Iterator[Batch]:
    """Cut tasks into requests of a good size, in their order.

    Raises:
        TooLarge: One is larger than any request may be; says which.
    """
    places: list[str] = []
    parts: list[bytes] = []
    size = 0
    for placed in specs:
        encoded = msgspec.json.encode(placed.spec)
        if len(encoded) > REQUEST_BYTES_MAX - 2:
            raise TooLarge(
                f"{placed.place}: the task is {len(encoded):,} bytes: at most 1 MiB is taken; "
                "send large input as a file of the task"
            )
        if parts and (len(parts) == BATCH_TASKS_MAX or size + len(encoded) > BATCH_BYTES_MAX):
            yield _batch(places, parts)
            places, parts, size = [], [], 0
        places.append(placed.place)
        parts.append(encoded)
        size += len(encoded) + 1
    if parts:
        yield _batch(places, parts)


def _batch(places: list[str], parts: list[bytes]) -> Batch:
    return Batch(places, b"[" + b",".join(parts) + b"]")


def _objects(file: BinaryIO) -> Iterator[PlacedSpec]:
    lines = ((number, line) for number, line in enumerate(file, start=1) if not line.isspace())
    number, line = next(lines, (0, b""))
    if not line:
        return
    decoder = msgspec.json.Decoder(Spec)
    try:
        first = decoder.decode(line)
    except NOT_JSON:
        # No task a line: one array, or one task over several lines.
        yield from _whole(line + file.read(), starts_on=number)
        return
    yield PlacedSpec(f"line {number}", first)
    for number, line in lines:
        try:
            yield PlacedSpec(f"line {number}", decoder.decode(line))
        except NOT_JSON as error:
            raise BadRequest(f"line {number} is not a task in JSON: {error}") from error


def _whole(content: bytes, *, starts_on: int) -> list[PlacedSpec]:
    try:
        if content.lstrip().startswith(b"["):
            specs = msgspec.json.decode(content, type=list[Spec])
            lines = _lines_of_items(content, starts_on=starts_on)
            return [
                PlacedSpec(f"task {index} (line {line})", spec)
                for index, (line, spec) in enumerate(zip(lines, specs, strict=True))
            ]
        return [PlacedSpec(f"line {starts_on}", msgspec.json.decode(content, type=Spec))]
    except NOT_JSON as error:
        raise BadRequest(
            f"line {starts_on} is not a task in JSON, nor the whole a task or an array: {error}"
        ) from error


def _lines_of_items(content: bytes, *, starts_on: int) -> Iterator[int]:
    """The line on which each item of an array begins."""
    at, line = 0, starts_on
    for raw in msgspec.json.decode(content, type=list[msgspec.Raw]):
        item = bytes(raw)
        # Between two items are a comma and white space alone: the next place that looks like the item is the item.
        begin = content.index(item, at)
        line += content.count(b"\n", at, begin)
        yield line
        line += item.count(b"\n")
        at = begin + len(item)

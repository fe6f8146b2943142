"""Reads tasks from a file and cuts them into requests, without ever holding the whole file.

A file holds JSON lines (one task a line), one task over several lines, or one array. Only lines
are streamed; the other two are read whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, Final

import msgspec
from msgspec import Struct

from rota.core.errors import BadRequest

__all__ = ["Batch", "cut_into_batches", "read_specs"]

BATCH_TASKS_MAX: Final = 1000
"""One commit for so many: more is hardly quicker, and the first ids come later. The API takes 10,000."""

BATCH_BYTES_MAX: Final = 4 << 20
"""Well under the 8 MiB that the API takes."""

Spec = dict[str, Any]


class Batch(Struct, frozen=True):
    """Tasks of one request, as a JSON array; ``first`` is the index of its first task in the file."""

    first: int
    count: int
    body: bytes


def read_specs(file: BinaryIO, defaults: Mapping[str, Any]) -> Iterator[Spec]:
    """Yield the tasks in a file, each with what it leaves out taken from ``defaults``.

    Raises:
        BadRequest: It is not JSON, or holds something else than objects; names the line.
    """
    for spec in _objects(file):
        yield {**defaults, **spec}


def cut_into_batches(specs: Iterable[Spec]) -> Iterator[Batch]:
    """Cut tasks into requests of a good size, in their order."""
    first, size = 0, 0
    parts: list[bytes] = []
    for spec in specs:
        encoded = msgspec.json.encode(spec)
        if parts and (len(parts) == BATCH_TASKS_MAX or size + len(encoded) > BATCH_BYTES_MAX):
            yield _batch(first, parts)
            first, parts, size = first + len(parts), [], 0
        parts.append(encoded)
        size += len(encoded) + 1
    if parts:
        yield _batch(first, parts)


def _batch(first: int, parts: list[bytes]) -> Batch:
    return Batch(first, len(parts), b"[" + b",".join(parts) + b"]")


def _objects(file: BinaryIO) -> Iterator[Spec]:
    lines = ((number, line) for number, line in enumerate(file, start=1) if not line.isspace())
    number, line = next(lines, (0, b""))
    if not line:
        return
    decoder = msgspec.json.Decoder(Spec)
    try:
        first = decoder.decode(line)
    except msgspec.MsgspecError:
        # No task a line: one array, or one task over several lines.
        yield from _whole(line + file.read(), starts_on=number)
        return
    yield first
    for number, line in lines:
        try:
            yield decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadRequest(f"line {number} is not a task in JSON: {error}") from error


def _whole(content: bytes, *, starts_on: int) -> list[Spec]:
    try:
        if content.lstrip().startswith(b"["):
            return msgspec.json.decode(content, type=list[Spec])
        return [msgspec.json.decode(content, type=Spec)]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRequest(
            f"line {starts_on} is not a task in JSON, nor the whole a task or an array: {error}"
        ) from error

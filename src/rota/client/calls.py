"""A call made ready to be submitted: the template of its function, and its arguments as an envelope."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from rota.client.blobs import BlobExchange, Pieces
from rota.client.callables import Template, dump_arguments
from rota.client.versions import packages_used, warn_differences, warn_python
from rota.core.client_protocol import NodeFacts
from rota.core.spec import decode_spec, encode_spec
from rota.functions.envelope import INLINE_BYTES_MAX

__all__ = ["encoded_call", "encoded_large", "find_inline", "warn_of_workers"]

STACK_LEVELS: Final = 6
"""From the warning to the line of the user's that submits: version check, this module, the client's methods."""


def encoded_call(
    blobs: BlobExchange, template: Template, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[bytes, bytes]:
    """The encoded spec of a call without its arguments, and their envelope. What is large is brought first.

    Raises:
        NotPicklable: An argument can't travel.
        TooLarge: They are over the limit of a blob.
    """
    pieces = dump_arguments(args, kwargs, name=template.name)
    envelope = find_inline(pieces)
    return encoded_large(blobs, template, pieces) if envelope is None else (template.encoded, envelope)


def find_inline(pieces: Pieces) -> bytes | None:
    """The envelope, if it is plainly small enough to travel with its task."""
    return b"".join(pieces) if len(pieces) == 2 and len(pieces[1]) < INLINE_BYTES_MAX else None


def encoded_large(blobs: BlobExchange, template: Template, pieces: Pieces) -> tuple[bytes, bytes]:
    """As `encoded_call`, for arguments that are large or lie in several pieces. Blocks."""
    envelope, digest = blobs.inlined(pieces, what=f"the arguments of {template.name}")
    if digest is None:
        return template.encoded, envelope
    spec = decode_spec(template.encoded)
    spec.blobs = [digest]
    return encode_spec(spec), envelope


def warn_of_workers(template: Template, fn: Callable[..., Any], nodes: Sequence[NodeFacts]) -> None:
    """Warn if workers have other versions of what a function uses, or none has this Python."""
    warn_python(nodes, stacklevel=STACK_LEVELS)
    if any(node.packages for node in nodes):
        warn_differences(packages_used(template.pickled, fn), nodes, stacklevel=STACK_LEVELS)

"""Functions, arguments, results and exceptions as bytes, and back.

Plain values go through the C pickler, which is ten times as fast as cloudpickle's; what it can't
pickle, such as a lambda among the arguments, goes through cloudpickle. Large buffers (arrays, bytes
objects of other libraries that support protocol 5) stay outside of the pickle and are not copied.
"""

from __future__ import annotations

import hashlib
import pickle
from typing import Any

import cloudpickle

from rota.functions.envelope import pack_value, unpack_value

__all__ = ["Call", "digest_of", "dump_call", "dump_function", "dump_value", "load_call", "load_function", "load_value"]

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and named arguments."""

PROTOCOL = 5


def digest_of(content: bytes) -> str:
    """The name of a blob: SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def dump_function(function: object) -> bytes:
    """Pickle a function: by reference where the other side can import it, else by value."""
    pickled: bytes = cloudpickle.dumps(function, protocol=PROTOCOL)
    return pickled


def load_function(pickled: bytes) -> Any:
    """What `dump_function` was given."""
    return pickle.loads(pickled)


def dump_value(value: object) -> list[bytes | memoryview]:
    """Lay out any value as the pieces of an envelope; raises whatever its pickling raises."""
    buffers: list[pickle.PickleBuffer] = []
    try:
        pickled = pickle.dumps(value, PROTOCOL, buffer_callback=buffers.append)
    except (pickle.PicklingError, AttributeError, TypeError):
        buffers.clear()
        pickled = cloudpickle.dumps(value, protocol=PROTOCOL, buffer_callback=buffers.append)
    return pack_value(pickled, [buffer.raw() for buffer in buffers])


def load_value(envelope: bytes | memoryview) -> Any:
    """What `dump_value` was given. Arrays lie in the envelope, and can be written to if its memory can."""
    pickled, buffers = unpack_value(envelope)
    return pickle.loads(pickled, buffers=buffers)


def dump_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[bytes | memoryview]:
    """Lay out the arguments of a call: a pair with the named ones, or the positional ones alone."""
    return dump_value((args, kwargs) if kwargs or _looks_like_a_call(args) else args)


def load_call(envelope: bytes | memoryview) -> Call:
    """What `dump_call` was given."""
    call = load_value(envelope)
    return (call[0], call[1]) if _looks_like_a_call(call) else (call, {})


def _looks_like_a_call(value: tuple[Any, ...]) -> bool:
    return len(value) == 2 and type(value[0]) is tuple and type(value[1]) is dict

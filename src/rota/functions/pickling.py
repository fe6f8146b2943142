"""Functions, arguments, results and exceptions as bytes, and back.

Plain values go through the C pickler, which is ten times as fast as cloudpickle's; what it can't
pickle, such as a lambda among the arguments, goes through cloudpickle. Large buffers (arrays, bytes
objects of other libraries that support protocol 5) stay outside of the pickle and are not copied.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle

from rota.functions.envelope import pack_value, unpack_value

__all__ = [
    "Call",
    "call",
    "digest_of",
    "dump_call",
    "dump_function",
    "dump_value",
    "load_call",
    "load_function",
    "load_value",
    "never",
    "plain",
]

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and named arguments."""

PROTOCOL = 5


def never(pickled: bytes) -> bool:
    """Nothing is local: for a worker, where all that can be imported came from elsewhere."""
    del pickled
    return False


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


def dump_value(value: object, *, is_local: Callable[[bytes], bool] = never) -> list[bytes | memoryview]:
    """Lay out any value as the pieces of an envelope; raises whatever its pickling raises.

    Args:
        value: Anything.
        is_local: Says whether a pickle refers to what the other side can't import, so must go by value.
    """
    buffers: list[pickle.PickleBuffer] = []
    try:
        pickled = pickle.dumps(value, PROTOCOL, buffer_callback=buffers.append)
        if not is_local(pickled):
            return pack_value(pickled, [buffer.raw() for buffer in buffers])
    except (pickle.PicklingError, AttributeError, TypeError):
        pass  # cloudpickle can do more, and says what it can't
    buffers.clear()
    pickled = cloudpickle.dumps(value, protocol=PROTOCOL, buffer_callback=buffers.append)
    return pack_value(pickled, [buffer.raw() for buffer in buffers])


def load_value(envelope: bytes | memoryview) -> Any:
    """What `dump_value` was given.

    Arrays that could be written to can be again. They lie in the envelope if its memory is writable, else in a copy.
    """
    pickled, buffers = unpack_value(envelope)
    if buffers and buffers[0].readonly:
        pickled, buffers = unpack_value(memoryview(bytearray(envelope)))
    return pickle.loads(pickled, buffers=buffers)


def dump_call(
    args: tuple[Any, ...], kwargs: dict[str, Any], *, is_local: Callable[[bytes], bool] = never
) -> list[bytes | memoryview]:
    """Lay out the arguments of a call: a pair with the named ones, or the positional ones alone."""
    return dump_value((args, kwargs) if kwargs or _looks_like_a_call(args) else args, is_local=is_local)


def load_call(envelope: bytes | memoryview) -> Call:
    """What `dump_call` was given."""
    call = load_value(envelope)
    return (call[0], call[1]) if _looks_like_a_call(call) else (call, {})


def plain(function: Any) -> Any:
    """The function itself: what a decorated one becomes on its way to a worker."""
    return function


def call(work: Callable[[], Any]) -> Any:
    """Call the argument: for work that is itself an object, such as a batch of joblib's."""
    return work()


def _looks_like_a_call(value: tuple[Any, ...]) -> bool:
    return len(value) == 2 and type(value[0]) is tuple and type(value[1]) is dict

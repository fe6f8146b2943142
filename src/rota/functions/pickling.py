"""Functions, arguments, results and exceptions as bytes, and back.

Plain values go through the C pickler, which is ten times as fast as cloudpickle's; what it can't
pickle, such as a lambda among the arguments, goes through cloudpickle. Large buffers (arrays, bytes
objects of other libraries that support protocol 5) stay outside of the pickle and are not copied.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cloudpickle

from rota.functions.envelope import INLINE_BYTES_MAX, pack_value, unpack_value

__all__ = [
    "Call",
    "call",
    "digest_of",
    "dump_call",
    "dump_function",
    "dump_value",
    "load_call",
    "load_function",
    "load_pickle",
    "load_value",
    "never",
    "plain",
]

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and named arguments."""

PROTOCOL = 5

_PLAIN = b"\0"
"""How an envelope begins that holds a pickle and no buffers."""

_CLASS_STATE = b"_class_setstate"
"""cloudpickle's function that fills in a class: in the pickle of every class that goes by value."""


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
    A class of this program's own that comes back with a value stays as it is here.
    """
    is_short = type(envelope) is bytes and envelope[:1] == _PLAIN and len(envelope) < INLINE_BYTES_MAX
    if is_short and _CLASS_STATE not in envelope:
        return pickle.loads(envelope[1:])  # nearly every result is such a one: half the time of what is below
    pickled, buffers = _unpacked(envelope)
    return load_pickle(pickled, buffers)


def load_pickle(pickled: bytes | memoryview, buffers: Sequence[memoryview] = ()) -> Any:
    """What was pickled, as `load_value` does."""
    # Looking for it is quicker than an unpickler of our own, up to some size.
    if len(pickled) <= INLINE_BYTES_MAX and _CLASS_STATE not in bytes(pickled):
        return pickle.loads(pickled, buffers=buffers)
    return _KnownClassesStay(io.BytesIO(pickled), buffers=buffers).load()


def dump_call(
    args: tuple[Any, ...], kwargs: dict[str, Any], *, is_local: Callable[[bytes], bool] = never
) -> list[bytes | memoryview]:
    """Lay out the arguments of a call: a pair with the named ones, or the positional ones alone."""
    return dump_value((args, kwargs) if kwargs or _looks_like_a_call(args) else args, is_local=is_local)


def load_call(envelope: bytes | memoryview) -> Call:
    """What `dump_call` was given. A class that came before is brought to the state that it has now over there."""
    if isinstance(envelope, bytes) and envelope[:1] == _PLAIN:
        call = pickle.loads(envelope[1:])  # nearly every call is such a one: this takes a third of the time of views
    else:
        pickled, buffers = _unpacked(envelope)
        call = pickle.loads(pickled, buffers=buffers)
    return (call[0], call[1]) if _looks_like_a_call(call) else (call, {})


def plain(function: Any) -> Any:
    """The function itself: what a decorated one becomes on its way to a worker."""
    return function


def call(work: Callable[[], Any]) -> Any:
    """Call the argument: for work that is itself an object, such as a batch of joblib's."""
    return work()


def _looks_like_a_call(value: tuple[Any, ...]) -> bool:
    return len(value) == 2 and type(value[0]) is tuple and type(value[1]) is dict


def _unpacked(envelope: bytes | memoryview) -> tuple[memoryview, list[memoryview]]:
    """The parts of an envelope, copied if there are arrays that nobody could write to."""
    pickled, buffers = unpack_value(envelope)
    if buffers and buffers[0].readonly:
        return unpack_value(memoryview(bytearray(envelope)))
    return pickled, buffers


class _KnownClassesStay(pickle.Unpickler):
    """Loads classes that came by value, but leaves those alone that are here already.

    cloudpickle sets the attributes of a class whenever it comes by. Where the class was defined that would
    put copies in the place of its methods, whose globals are no longer those of their module.
    """

    def __init__(self, file: io.BytesIO, *, buffers: Sequence[memoryview]) -> None:
        super().__init__(file, buffers=buffers)
        self._known: set[type] = set()

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if module == cloudpickle.cloudpickle.__name__:
            if name in ("_make_skeleton_class", "_make_skeleton_enum"):
                return partial(_made_unless_known, found, self._known)
            if name == _CLASS_STATE.decode():
                return partial(_set_unless_known, found, self._known)
        return found


# No methods: an unpickler remembers what it found, and would go round in a circle with all that it has loaded.


def _made_unless_known(make: Callable[..., type], known: set[type], *args: Any) -> type:
    # The name that cloudpickle gave to the class is the last argument but one.
    is_known = args[-2] in cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID  # noqa: SLF001 - pinned below 4
    made = make(*args)
    if is_known:
        known.add(made)
    return made


def _set_unless_known(set_state: Callable[[type, Any], type], known: set[type], made: type, state: Any) -> type:
    return made if made in known else set_state(made, state)

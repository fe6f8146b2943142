"""What goes into a call and what comes out of it: functions, arguments, results and failures, small or in files.

Whatever goes wrong here is the end of one attempt, as a `CallFailed` that says what could not be loaded, or not be
sent back, and why.
"""

from __future__ import annotations

import mmap
import os
import pickle
from types import CoroutineType, GeneratorType
from typing import Any, Final

from rota.functions.envelope import INLINE_BYTES_MAX, blob_of, pack_blob, value_bytes
from rota.functions.failure import describe_failure, dump_failure
from rota.functions.pickling import Call, dump_value, load_call, load_function, load_value
from rota.worker.slots.blobfile import store_blob

__all__ = ["CallFailed", "FunctionCache", "Result", "dump_error", "dump_result", "load_arguments"]

FUNCTIONS_MAX: Final = 512
"""Kept by a runner, those used last. What a function has in its globals stays as long as it is kept."""

VALUE_BYTES_MAX: Final = 1 << 30
"""Of a result: what a blob may have."""

TEXT_CHARS_MAX: Final = INLINE_BYTES_MAX // 4 - 100
"""Of a traceback whose exception is too large to travel with it: each may be 4 bytes."""

MESSAGE_CHARS_MAX: Final = 4_000
"""Of a text in an exception that is too large to travel: what people may read of it."""

SMALL_TYPES: Final = frozenset({type(None), bool, float})
"""Results that can't be large: they need not be looked at."""

PROTOCOL: Final = 5

PLAIN: Final = b"\0"
"""How an envelope begins that holds a pickle and no buffers."""


class CallFailed(Exception):
    """A call that can't be made, or whose result can't be sent back. Its cause, if any, is what the user must see.

    ``word`` is the cause of the end: ``error`` for the task's own fault, ``agent-error`` for the machine's.
    """

    def __init__(self, message: str, *, word: str = "error") -> None:
        super().__init__(message)
        self.word = word


Result = tuple[bytes, tuple[str, ...]]
"""An envelope, and the digests of the blobs that it names."""


class FunctionCache:
    """Functions by the paths of their files, which are named by what is in them."""

    def __init__(self) -> None:
        self._functions: dict[str, Any] = {}
        self._last_path = ""
        self._last: Any = None

    def get(self, path: str) -> Any:
        """The function in this file, loaded the first time.

        Raises:
            CallFailed: It can't be loaded.
        """
        if path == self._last_path:
            return self._last
        functions = self._functions
        # Taken out and put in again: the first in the dictionary is the one not used for longest.
        function = functions.pop(path) if path in functions else _load_function(path)
        functions[path] = function
        if len(functions) > FUNCTIONS_MAX:
            del functions[next(iter(functions))]
        self._last_path, self._last = path, function
        return function


def load_arguments(envelope: bytes, extras: dict[str, object] | None) -> Call:
    """The arguments of a call. Arrays in blobs lie in the mapped file; writing to them does not change it.

    Raises:
        CallFailed: They can't be loaded.
    """
    try:
        named = blob_of(envelope)
        return load_call(envelope if named is None else _mapped(*named, extras))
    except CallFailed:
        raise
    except Exception as error:
        raise CallFailed(f"the arguments can't be loaded on this worker: {_reason(error)}") from error


def dump_result(value: object, extras: dict[str, object] | None) -> Result:
    """Lay out what a function returned; a large result is written to a file.

    Raises:
        CallFailed: It can't be sent back.
    """
    if type(value) in SMALL_TYPES:
        return PLAIN + pickle.dumps(value, PROTOCOL), ()
    try:
        pieces = dump_value(value)
    except Exception as error:  # noqa: BLE001 - whatever a foreign class raises, it is the cause of what is raised
        refusal = TypeError(_why_not_back(value, error))
        refusal.__cause__ = error
        raise CallFailed(str(refusal)) from refusal
    size = value_bytes(pieces)
    if size <= INLINE_BYTES_MAX:
        return b"".join(pieces), ()
    if size > VALUE_BYTES_MAX:
        raise CallFailed(
            f"the result has {size:,} bytes, and at most {VALUE_BYTES_MAX:,} can be sent back: write it to a file"
        )
    folder = extras.get("blob_dir") if extras is not None else None
    if not isinstance(folder, str):
        raise CallFailed(
            f"the result has {size:,} bytes, and this worker has no place for more than {INLINE_BYTES_MAX:,}"
        )
    try:
        digest = store_blob(pieces, folder)
    except OSError as error:
        reason = error.strerror or error
        message = f"the result of {size:,} bytes could not be written on this worker: {reason}"
        raise CallFailed(message, word="agent-error") from error
    return pack_blob(digest, size), (digest,)


def dump_error(error: BaseException) -> bytes:
    """The envelope of an exception, at most `INLINE_BYTES_MAX` long."""
    envelope = b"".join(dump_failure(error))
    if len(envelope) > INLINE_BYTES_MAX:
        # A long message is shortened: the type of the exception is worth more than the whole of its text.
        error.args = tuple(_shortened(part) for part in error.args)
        envelope = b"".join(dump_failure(error))
    if len(envelope) > INLINE_BYTES_MAX:
        _, text = load_value(envelope)
        envelope = b"".join(dump_value((None, text[:TEXT_CHARS_MAX])))
    return envelope


def _shortened(part: object) -> object:
    if not isinstance(part, str) or len(part) <= MESSAGE_CHARS_MAX:
        return part
    return f"{part[:MESSAGE_CHARS_MAX]}… ({len(part) - MESSAGE_CHARS_MAX:,} more characters)"


def _load_function(path: str) -> Any:
    try:
        with open(path, "rb") as file:
            pickled = file.read()
    except OSError as error:
        reason = error.strerror or error
        raise CallFailed(f"the function can't be read on this worker: {reason}", word="agent-error") from error
    try:
        return load_function(pickled)
    except Exception as error:
        raise CallFailed(f"the function can't be loaded on this worker: {_reason(error)}") from error


def _why_not_back(value: object, error: Exception) -> str:
    message = f"the result, of type {type(value).__name__}, can't be sent back: {describe_failure(error)}"
    match value:
        case GeneratorType():
            return f"{message}; return a list of what it yields"
        case CoroutineType():
            value.close()  # else Python warns that nobody has awaited it, where the task's output is
            return f"{message}; let a function call it with asyncio.run()"
        case _:
            return message


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"the module {error.name!r} is not installed there; name what it comes from in requirements=[…]"
    return describe_failure(error)


def _mapped(digest: str, size: int, extras: dict[str, object] | None) -> memoryview:
    """The bytes of a blob, without a copy. The pages that the function writes to become its own."""
    paths = extras.get("blobs") if extras is not None else None
    path = paths.get(digest) if isinstance(paths, dict) else None
    if path is None:
        raise CallFailed(f"the blob {digest} of the arguments did not come with the task", word="agent-error")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return memoryview(mmap.mmap(fd, size, access=mmap.ACCESS_COPY))
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:  # a file that is too short is a ValueError
        message = f"the blob {digest} of the arguments can't be read on this worker: {error}"
        raise CallFailed(message, word="agent-error") from error

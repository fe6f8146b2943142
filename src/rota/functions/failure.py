"""Exceptions on their way back: the exception itself where it can travel, and always its traceback as text."""

from __future__ import annotations

import traceback
from typing import Any

from rota.functions.pickling import dump_value, load_value

__all__ = ["RemoteTraceback", "describe_failure", "dump_failure", "load_failure"]


class RemoteTraceback(Exception):
    """The cause of an exception that came from a worker: its traceback there, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n\n{self.text}"


def describe_failure(error: BaseException) -> str:
    """One line for the record: the type and the message, at most 1,000 characters."""
    return "".join(traceback.format_exception_only(error)).strip().replace("\n", " ")[:1000]


def dump_failure(error: BaseException) -> list[bytes | memoryview]:
    """Lay out an exception; one that can't be pickled is told of in words."""
    text = "".join(traceback.format_exception(error))
    try:
        pieces = dump_value((error, text))
        load_value(b"".join(pieces))  # many exceptions can be pickled but not made again
    except Exception:  # noqa: BLE001 - whatever a foreign class raises, the failure itself must come through
        pieces = dump_value((None, text))
    return pieces


def load_failure(envelope: bytes | memoryview) -> tuple[BaseException | None, str]:
    """The exception, or ``None`` if it can't be made here, and its traceback as text.

    The exception has a `RemoteTraceback` as its cause.
    """
    loaded: Any
    try:
        loaded = load_value(envelope)
    except Exception as failed:  # noqa: BLE001 - as above
        return None, f"(the exception could not be read here: {failed!r})"
    error, text = loaded
    if isinstance(error, BaseException):
        error.__cause__ = RemoteTraceback(text)
        return error, text
    return None, text

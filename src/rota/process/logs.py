"""Structured logs: an event name with fields. Human on a terminal, one JSON object a line otherwise."""

from __future__ import annotations

import io
import logging
import os
import sys
from contextlib import suppress
from typing import Final

import msgspec
import structlog

__all__ = ["set_up_logs"]

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def set_up_logs(*, log_format: str, level: str) -> None:
    """Send all logs of this process to standard error, which from now on never fails whoever writes to it.

    Args:
        log_format: ``human``, ``json``, or ``auto`` for human on a terminal and JSON elsewhere.
        level: The least severe to write: debug, info, warning or error.
    """
    sys.stderr = stream = _Unfailing()
    human = log_format == "human" or (log_format == "auto" and stream.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=not human),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: list[structlog.typing.Processor]
    if human:
        renderer = [structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=24)]
    else:
        renderer = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_to_json),
        ]
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )
    # Libraries log through the standard module: what they warn of goes the same way, with their own format.
    logging.basicConfig(
        level=max(LEVELS[level], logging.WARNING), stream=stream, format="%(levelname)s %(name)s %(message)s"
    )


class _Unfailing(io.TextIOWrapper):
    """Standard error, whose reader may have left, or whose disk may be full: a line is lost then, and nothing else.

    Nothing is buffered: what Python finds in a buffer that it can't write at the end makes its exit status 120.
    """

    def __init__(self) -> None:
        # Without a standard error (`2>&-`) its number belongs to whatever was opened since.
        fd = sys.stderr.fileno() if sys.stderr is not None else os.open(os.devnull, os.O_WRONLY)
        raw = io.FileIO(fd, "w", closefd=False)
        super().__init__(raw, encoding="utf-8", errors="backslashreplace", write_through=True)

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):  # a closed stream raises ValueError
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            super().flush()


def _to_json(event: dict[str, object], **_: object) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()

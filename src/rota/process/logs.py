"""Structured logs: an event name with fields. Human on a terminal, one JSON object a line otherwise."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import Final, TextIO, cast

import msgspec
import structlog

__all__ = ["set_up_logs"]

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def set_up_logs(*, log_format: str, level: str) -> None:
    """Send all logs of this process to standard error.

    Args:
        log_format: ``human``, ``json``, or ``auto`` for human on a terminal and JSON elsewhere.
        level: The least severe to write: debug, info, warning or error.
    """
    human = log_format == "human" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=not human),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: list[structlog.typing.Processor]
    if human:
        renderer = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=24)]
    else:
        renderer = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_to_json),
        ]
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(file=cast(TextIO, _Unfailing(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    # Libraries log through the standard module: what they warn of goes the same way, with their own format.
    logging.basicConfig(
        level=max(LEVELS[level], logging.WARNING), stream=sys.stderr, format="%(levelname)s %(name)s %(message)s"
    )


class _Unfailing:
    """A stream whose reader may have left, or whose disk may be full: a line is lost then, and nothing else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # a closed stream raises ValueError
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def _to_json(event: dict[str, object], **_: object) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()

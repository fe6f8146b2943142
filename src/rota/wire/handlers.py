"""Calling a channel's handler: what it raises ends its channel, not the process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import structlog

from rota.wire.channel import CloseCode

__all__ = ["OUR_MISTAKE", "told"]

OUR_MISTAKE: Final = (CloseCode.INTERNAL_ERROR, "internal error")
"""How a channel ends whose handler has failed."""

Argument = TypeVar("Argument")

log = structlog.get_logger(__name__)


def told(call: Callable[[Argument], None], argument: Argument) -> bool:
    """Call the handler. What it raises is a mistake of ours: logged, and the end of this channel alone."""
    try:
        call(argument)
    except Exception:
        log.exception("channel_handler_failed")
        return False
    return True

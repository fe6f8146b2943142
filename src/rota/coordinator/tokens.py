"""Follows the file of tokens: what is added is taken, what is withdrawn is taken no longer, without a restart."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from rota.wire.tokens import TokenFile

__all__ = ["TokenWatch"]

LOOK_EVERY_S: Final = 1.0
"""A look is one system call."""

log = structlog.get_logger(__name__)


class TokenWatch:
    """Looks at the file for as long as it runs.

    Args:
        file: The tokens.
        use: Told which are taken from now on.
        on_withdrawal: Called when one is taken no longer: whoever got in with it must show another.
    """

    def __init__(
        self, file: TokenFile, *, use: Callable[[Sequence[str]], None], on_withdrawal: Callable[[], None]
    ) -> None:
        self._file = file
        self._use = use
        self._on_withdrawal = on_withdrawal
        self._last_problem = ""

    def run_once(self) -> None:
        """Look at the file. One that can't be used changes nothing: a slip of the pen must lock nobody out."""
        before = self._file.tokens
        try:
            has_changed = self._file.look()
        except (OSError, ValueError) as error:
            if str(error) != self._last_problem:
                log.error("tokens_kept", error=str(error))
            self._last_problem = str(error)
            return
        self._last_problem = ""
        if not has_changed:
            return
        self._use(self._file.tokens)
        withdrawn = len(set(before) - set(self._file.tokens))
        log.info("tokens_changed", tokens=len(self._file.tokens), withdrawn=withdrawn)
        if withdrawn:
            self._on_withdrawal()

    async def run(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S * random.uniform(0.8, 1.2))
            self.run_once()

"""Who waits for something to happen to a task: its end, or more of its output."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from rota.core.changes import Changes
from rota.core.model import TaskSeq

__all__ = ["Watches"]


class Watches:
    """Wakes those who watch a task after every commit that touched it."""

    def __init__(self) -> None:
        self._watched: dict[TaskSeq, set[asyncio.Event]] = {}

    @contextmanager
    def watch(self, seq: TaskSeq) -> Iterator[asyncio.Event]:
        """Give an event that is set whenever the task or its output changes."""
        changed = asyncio.Event()
        self._watched.setdefault(seq, set()).add(changed)
        try:
            yield changed
        finally:
            watchers = self._watched[seq]
            watchers.discard(changed)
            if not watchers:
                del self._watched[seq]

    def publish(self, changes: Changes) -> None:
        """Wake those whose tasks a commit touched."""
        if not self._watched:
            return
        for seq, _ in changes.progress:
            if seq in self._watched:
                self._wake(seq)
        for chunk in changes.output:
            if chunk.task in self._watched:
                self._wake(chunk.task)

    def wake_all(self) -> None:
        """Wake everybody: the coordinator is stopping."""
        for seq in list(self._watched):
            self._wake(seq)

    def _wake(self, seq: TaskSeq) -> None:
        for changed in self._watched[seq]:
            changed.set()

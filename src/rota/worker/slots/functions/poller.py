"""``poll`` with a memory of what is registered, so that it can be told again and again at no cost."""

from __future__ import annotations

import select

__all__ = ["Poller"]


class Poller:
    """Descriptors that are waited for."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._events: dict[int, int] = {}

    def add(self, fd: int, *, has_outgoing: bool = False) -> None:
        """Wait until something can be read, or also until something can be written."""
        events = select.POLLIN | select.POLLOUT if has_outgoing else select.POLLIN
        if self._events.get(fd) != events:
            self._events[fd] = events
            self._poll.register(fd, events)

    def remove(self, fd: int) -> None:
        """Wait for it no more, before it is closed."""
        if self._events.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def wait(self, timeout_s: float | None) -> list[tuple[int, int]]:
        """Return what has happened: descriptors and flags. Never too early: the kernel's clock is rounded up."""
        return self._poll.poll(None if timeout_s is None else timeout_s * 1000)

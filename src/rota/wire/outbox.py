"""What waits to be written: two queues of encoded messages, the urgent one first.

Messages overtake only when something was left behind by an earlier write, which is to say when
the line is congested; otherwise all keep their order. Pure: bytes in, batches of bytes out.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Outbox"]


class Outbox:
    """Encoded messages on their way. ``backlog_bytes`` is what they add up to."""

    __slots__ = ("_ordered", "_urgent", "backlog_bytes")

    def __init__(self) -> None:
        self._ordered: deque[bytes] = deque()
        self._urgent: deque[bytes] = deque()
        self.backlog_bytes = 0

    def __bool__(self) -> bool:
        return self.backlog_bytes > 0

    def put(self, frame: bytes, *, overtakes: bool) -> None:
        """Queue a message of at least one byte behind the others, or behind those that overtake as well."""
        assert frame
        (self._urgent if overtakes else self._ordered).append(frame)
        self.backlog_bytes += len(frame)

    def take(self, bytes_wanted: int) -> list[bytes]:
        """Remove messages from the front until they have ``bytes_wanted`` or more, or none is left."""
        batch: list[bytes] = []
        taken = 0
        for queue in (self._urgent, self._ordered):
            while queue and taken < bytes_wanted:
                frame = queue.popleft()
                taken += len(frame)
                batch.append(frame)
        self.backlog_bytes -= taken
        return batch

    def clear(self) -> None:
        """Forget everything."""
        self._ordered.clear()
        self._urgent.clear()
        self.backlog_bytes = 0

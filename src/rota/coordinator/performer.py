"""Carries out what the core wants done, in the order in which the turn gives it."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from rota.coordinator.clients import ClientDesk
from rota.coordinator.events import EventHub
from rota.coordinator.inbox import Inbox
from rota.coordinator.marks import MarkBoard
from rota.coordinator.sessions import Sessions
from rota.coordinator.watches import Watches
from rota.core.changes import Changes
from rota.core.commands import ReplyTo, SessionId
from rota.core.effects import Answer, Notice
from rota.core.errors import RotaError
from rota.core.protocol import FromCoordinator
from rota.process.clock import wall_s

__all__ = ["NODE_WORDS", "LivePerformer", "is_warning"]

NODE_WORDS = {
    "worker_online": "online",
    "worker_back": "online",
    "worker_resumed": "online",
    "worker_suspicious": "suspicious",
    "worker_offline": "offline",
    "worker_drained": "draining",
    "worker_leaving": "draining",
}
"""Which notices are events that users see, and by which word."""

WARNINGS = frozenset({"worker_suspicious", "blackout", "slots_quarantined", "calendar_missed"})
"""Notices that are always one; see `is_warning`."""

LEFT = "left"
"""The detail of a worker that is offline because it wished to be; any other was lost."""

log = structlog.get_logger(__name__)


def is_warning(notice: Notice) -> bool:
    """Say whether an operator may have to do something about it: what is gone against its will, or is not done.

    >>> is_warning(Notice("worker_offline", detail=LEFT)), is_warning(Notice("worker_offline", detail="silent for 9 s"))
    (False, True)
    """
    return notice.event in WARNINGS or (notice.event == "worker_offline" and notice.detail != LEFT)


class LivePerformer:
    """The performer of a real coordinator. Nothing in it waits, and nothing in it fails into the core."""

    def __init__(
        self,
        inbox: Inbox,
        sessions: Sessions,
        *,
        clients: ClientDesk,
        marks: MarkBoard,
        events: EventHub,
        watches: Watches,
        wake_at: Callable[[float], None],
    ) -> None:
        self._inbox = inbox
        self._sessions = sessions
        self._clients = clients
        self._marks = marks
        self._events = events
        self._watches = watches
        self._wake_at = wake_at

    def reply(self, to: ReplyTo, answer: Answer) -> None:
        """Give an answer to who waits for it; a client on a channel is told of it here and now."""
        self._inbox.answer(to, answer)

    def refuse(self, to: ReplyTo, error: RotaError) -> None:
        """Let a waiting handler fail."""
        self._inbox.refuse(to, error)

    def send(self, session: SessionId, message: FromCoordinator) -> None:
        """Send to a worker."""
        self._sessions.send(session, message)

    def disconnect(self, session: SessionId, reason: str) -> None:
        """Close a session."""
        self._sessions.disconnect(session, reason)

    def publish(self, number: int, changes: Changes) -> None:
        """Show what is now on the record to those who listen and wait."""
        self._clients.publish(changes)
        self._events.publish(number, changes, at=wall_s())
        self._watches.publish(changes)
        self._marks.publish(changes)

    def notice(self, notice: Notice) -> None:
        """Log what an operator should know, and show changes of workers to those who listen."""
        fields: dict[str, str] = {}
        if notice.worker is not None:
            fields["worker"] = notice.worker
        if notice.detail:
            fields["detail"] = notice.detail
        write = log.warning if is_warning(notice) else log.info
        write(notice.event, **fields)
        word = NODE_WORDS.get(notice.event)
        if word is not None and notice.worker is not None:
            self._events.publish_node(notice.worker, word, at=wall_s())

    def wake_at(self, at: float) -> None:
        """Set the next timer."""
        self._wake_at(at)

"""The clients that are connected, and what their sessions share.

Each is a `ClientSession`; a client has one channel at a time, and a new one takes the place of the old one.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from typing import Final

import structlog

from rota.coordinator.client_session import ClientSession
from rota.coordinator.loop import Loop
from rota.coordinator.metrics import Counters
from rota.coordinator.nodes import NodeFactsBook
from rota.coordinator.outcomes import Followers
from rota.coordinator.room import WaitingRoom
from rota.coordinator.shares import check_limits
from rota.coordinator.templates import Templates
from rota.core.changes import Changes
from rota.core.client_protocol import ClientHello, ClientWelcome
from rota.core.commands import CancelTasks, Command, ReplyTo
from rota.core.effects import Answer, NumbersKnown
from rota.core.errors import RotaError
from rota.core.model import TaskSeq
from rota.core.placement.policies import POLICIES, PolicyFactory
from rota.core.protocol import PROTOCOL_VERSION
from rota.core.spec import TaskRequest
from rota.store.base import Store
from rota.store.blobs import BlobStore
from rota.wire.channel import Channel, CloseCode
from rota.wire.messages import ToPeer

__all__ = ["ClientDesk"]

CANCEL_TASKS: Final = 5_000
"""Cancelled in one turn."""

log = structlog.get_logger(__name__)


class ClientDesk:
    """What all sessions of clients share.

    Args:
        loop: Takes their commands.
        store: Knows the tasks that have ended.
        blobs: What tasks may name.
        cluster: Its id.
        room: How much may wait.
        counters: Of what comes in.
        policies: The placement policies that tasks may name.
    """

    def __init__(
        self,
        loop: Loop,
        store: Store,
        *,
        blobs: BlobStore,
        cluster: str,
        room: WaitingRoom,
        counters: Counters,
        policies: Mapping[str, PolicyFactory] = POLICIES,
    ) -> None:
        self.loop = loop
        self.store = store
        self.templates = Templates(blobs.missing, size=blobs.size, check_limits=self._check_limits, policies=policies)
        self.followers = Followers()
        self.room = room
        self.counters = counters
        self._blob_home = blobs.home
        self._cluster = cluster
        self._facts = NodeFactsBook()
        self._sessions: dict[str, ClientSession] = {}
        self._held_up: dict[ClientSession, None] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def let_in(self, hello: ClientHello, channel: Channel[ToPeer]) -> ClientSession:
        """Begin a session; the channel that the client had before is closed."""
        before = self._sessions.pop(hello.session, None)
        if before is not None:
            before.close(CloseCode.NORMAL, "the client has opened another channel")
        session = self._sessions[hello.session] = ClientSession(hello.session, channel, self)
        session.arrive(hello)
        return session

    def welcome(self, known: NumbersKnown) -> ClientWelcome:
        """Answer a client's hello."""
        turn = self.loop.turn
        workers = turn.scheduler.state.cluster.workers.values() if turn is not None else ()
        return ClientWelcome(
            PROTOCOL_VERSION,
            self._cluster,
            known.accepted_through,
            known.ranges,
            self._facts.facts_of(workers),
            self._blob_home,
        )

    def _check_limits(self, request: TaskRequest) -> None:
        turn = self.loop.turn
        if turn is not None:  # else nothing is accepted just now
            check_limits([request], turn.scheduler.state)

    def ask(
        self, session: ClientSession, make: Callable[[ReplyTo], Command], answered: Callable[[Answer], None]
    ) -> None:
        """Put a command of a session's. Its answer is looked at before anything else of the turn is told.

        A refusal sends the client away: what it asked for is not on the record, and it asks again when it is back.
        """
        to = self.loop.inbox.expect(partial(_safely, session, answered), partial(_send_away, session))
        self.loop.put(make(to))

    def cancel(self, seqs: Sequence[TaskSeq], _: Answer | None = None) -> None:
        """Wish the end of tasks, some each turn, whether the one who asked for it stays or not."""
        some, rest = list(seqs[:CANCEL_TASKS]), seqs[CANCEL_TASKS:]
        to = self.loop.inbox.expect(partial(self.cancel, rest) if rest else _ignore, _ignore)
        self.loop.put(CancelTasks(some, to))

    def unfinished(self) -> Container[TaskSeq]:
        """The tasks that the scheduler knows."""
        turn = self.loop.turn
        return turn.scheduler.state.tasks if turn is not None else ()

    def publish(self, changes: Changes) -> None:
        """Tell clients what a commit brought, and let those go on who were held up."""
        self.followers.publish(changes)
        if self._held_up and self.room.has_space:
            self._go_on()

    def hold_up(self, session: ClientSession) -> None:
        """Note who must wait until there is room."""
        self._held_up[session] = None

    def forget(self, session: ClientSession) -> None:
        """Drop a session that has ended."""
        self._held_up.pop(session, None)
        if self._sessions.get(session.name) is session:
            del self._sessions[session.name]

    def _go_on(self) -> None:
        """Let those go on who were held up. Who came first this time is the last the next, if it is held up again."""
        first, *others = self._held_up
        self._held_up = {}
        for session in (first, *others):
            session.go_on()
        if first in self._held_up:
            del self._held_up[first]
            self._held_up[first] = None


def _safely(session: ClientSession, answered: Callable[[Answer], None], answer: Answer) -> None:
    """Let a session look at an answer; a mistake of ours ends its channel, not the loop that calls."""
    try:
        answered(answer)
    except Exception:
        log.exception("client_session_failed")
        session.fail()


def _send_away(session: ClientSession, error: RotaError) -> None:
    session.say_goodbye(str(error))


def _ignore(_: Answer | RotaError) -> None:
    """Nobody waits for this."""

"""Carries out what a simulated coordinator has decided: answers, messages, the timer that wakes it.

It holds what a process holds for that: links by session, who waits for an answer, and which reports are not
acknowledged. A process can be killed between any two effects, which is here, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rota.core.changes import Changes
from rota.core.commands import Command, ReplyTo, SessionClosed, SessionId
from rota.core.effects import Answer, Notice
from rota.core.errors import RotaError
from rota.core.protocol import FromCoordinator, Report, ReportAck
from rota.simulator.network import SimulatedLink
from rota.simulator.store import ModelStore
from rota.simulator.watch import Watch
from rota.simulator.world import Planned, World

__all__ = ["Killed", "OnAnswer", "SimulatedPerformer"]

OLD_LINK_S: Final = (0.01, 3.0)
"""How long a link may be heard that was replaced by another."""

OnAnswer = Callable[[Answer | RotaError | None], None]
"""Is told the answer; ``None`` if the connection broke before it came."""


class Killed(BaseException):
    """The process is killed here. Nothing may catch it on its way but `Coordinator`."""


class SimulatedPerformer:
    """The performer of one process after another.

    Attributes:
        hears_old_links: Whether what is on its way on a link that was replaced is still heard.
        fuse: After how many effects the process is killed; ``None`` for never.
    """

    def __init__(
        self,
        world: World,
        store: ModelStore,
        watch: Watch,
        *,
        put: Callable[[Command], None],
        plan_turn: Callable[[], None],
    ) -> None:
        self.hears_old_links = False
        self.fuse: int | None = None
        self._world = world
        self._store = store
        self._watch = watch
        self._put = put
        self._plan_turn = plan_turn
        self._numbers = 0
        self._wake: Planned | None = None
        self.forget_all()

    def forget_all(self) -> None:
        """Begin as a new process does. Sessions and replies are never called again as they were."""
        self._waiting: dict[ReplyTo, tuple[Command, OnAnswer]] = {}
        self._links: dict[SessionId, SimulatedLink] = {}
        self._sessions: dict[SimulatedLink, SessionId] = {}
        self._told: dict[SessionId, dict[int, Report]] = {}
        self.forget_wake()

    # Links and those who ask

    @property
    def links(self) -> list[SimulatedLink]:
        """Those that are open, in order."""
        return list(self._links.values())

    def open_session(self, link: SimulatedLink) -> None:
        """Give a link a session."""
        self._numbers += 1
        session = SessionId(self._numbers)
        self._links[session], self._sessions[link] = link, session

    def find_session(self, link: SimulatedLink) -> SessionId | None:
        """The session of a link that is heard."""
        return self._sessions.get(link)

    def take_session(self, link: SimulatedLink) -> SessionId | None:
        """Forget a link that is gone."""
        session = self._sessions.pop(link, None)
        if session is not None:
            self._links.pop(session, None)
        return session

    def note_report(self, session: SessionId, report: Report) -> None:
        """Keep a report until it is acknowledged."""
        self._told.setdefault(session, {})[report.number] = report

    def expect(self, make: Callable[[ReplyTo], Command], on_answer: OnAnswer) -> Command:
        """Make a command that somebody waits for the answer of."""
        self._numbers += 1
        to = ReplyTo(self._numbers)
        command = make(to)
        self._waiting[to] = (command, on_answer)
        return command

    def answer_all(self, error: RotaError | None) -> None:
        """Tell all who wait that nothing comes of it."""
        for _, on_answer in self._waiting.values():
            self.hand_out(on_answer, error)
        self._waiting = {}

    def hand_out(self, on_answer: OnAnswer, answer: Answer | RotaError | None) -> None:
        """Let an answer be on its way; some never arrive."""
        if self._world.chance(self._world.pace.answer_lost_part):
            answer = None
        self._world.after(self._world.draw(self._world.pace.answer_s), lambda: on_answer(answer))

    def forget_wake(self) -> None:
        """Wake nobody any more."""
        if self._wake is not None:
            self._wake.cancel()

    # Effects

    def reply(self, to: ReplyTo, answer: Answer) -> None:
        self._burn()
        command, on_answer = self._waiting.pop(to)
        self._watch.answer_leaves(command, answer)
        self.hand_out(on_answer, answer)

    def refuse(self, to: ReplyTo, error: RotaError) -> None:
        self.hand_out(self._waiting.pop(to)[1], error)

    def send(self, session: SessionId, message: FromCoordinator) -> None:
        self._burn()
        self._watch.message_leaves(message)
        if isinstance(message, ReportAck):
            told = self._told.get(session, {})
            for number in [number for number in told if number <= message.number]:
                self._watch.report_acknowledged(told.pop(number))
        if session in self._links:
            self._links[session].send_down(message)

    def disconnect(self, session: SessionId, reason: str) -> None:
        self._burn()
        link = self._links.pop(session, None)
        if link is not None:
            self._world.note("coordinator", f"disconnects {session}: {reason}")
            if self.hears_old_links:  # what is on its way on it is still heard: nobody may believe it
                self._world.after(self._world.between(*OLD_LINK_S), link.close_from_coordinator)
            else:
                del self._sessions[link]
                link.close_from_coordinator()
            self._put(SessionClosed(session))

    def publish(self, number: int, changes: Changes) -> None:
        self._burn()
        assert number == self._store.number, "published before it was on record"
        del changes

    def notice(self, notice: Notice) -> None:
        self._world.note("coordinator", f"{notice.event} {notice.worker or ''} {notice.detail}")

    def wake_at(self, at: float) -> None:
        self.forget_wake()
        self._wake = self._world.after(max(0.0, at - self._world.now), self._plan_turn)

    def _burn(self) -> None:
        """One more effect: the one at which the process is killed, perhaps."""
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse <= 0:
                raise Killed

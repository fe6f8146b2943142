"""The order of duties: nothing is seen before it is saved, and who waits is answered or refused."""

from __future__ import annotations

from typing import Any

import pytest

from rota.core.changes import Changes
from rota.core.commands import (
    CancelTasks,
    Command,
    ReplyTo,
    ReportArrived,
    SessionClosed,
    SessionId,
    SubmitTasks,
    Tick,
    WorkerBeat,
    WorkerHello,
)
from rota.core.config import SchedulerConfig
from rota.core.effects import Accepted, Answer, Notice, Settled
from rota.core.errors import RotaError, StoreUnavailable
from rota.core.model import Epoch, TaskSeq, WorkerId
from rota.core.protocol import (
    PROTOCOL_VERSION,
    Assign,
    Ended,
    FromCoordinator,
    Heartbeat,
    HeartbeatAck,
    Hello,
    Report,
    ReportAck,
    Usage,
    Welcome,
)
from rota.core.scheduler import Scheduler
from rota.core.turn import Turn
from tests.support.core import drafts_of, make_offer, only

S1 = SessionId(1)


class Recorder:
    """A performer that keeps what it is told, in order."""

    def __init__(self) -> None:
        self.done: list[tuple[str, Any]] = []

    def reply(self, to: ReplyTo, answer: Answer) -> None:
        self.done.append(("reply", (to, answer)))

    def refuse(self, to: ReplyTo, error: RotaError) -> None:
        self.done.append(("refuse", (to, error)))

    def send(self, session: SessionId, message: FromCoordinator) -> None:
        self.done.append(("send", message))

    def disconnect(self, session: SessionId, reason: str) -> None:
        self.done.append(("disconnect", session))

    def publish(self, number: int, changes: Changes) -> None:
        self.done.append(("publish", (number, changes)))

    def notice(self, notice: Notice) -> None:
        self.done.append(("notice", notice))

    def wake_at(self, at: float) -> None:
        self.done.append(("wake", at))

    def take(self) -> list[tuple[str, Any]]:
        done, self.done = self.done, []
        return done


class Desk:
    """A turn with its performer, at a time that the test sets."""

    def __init__(self) -> None:
        self.performer = Recorder()
        scheduler = Scheduler(
            SchedulerConfig(), cluster_id="c", epoch=Epoch(1), next_seq=TaskSeq(1), now=0.0, wall=1000.0
        )
        self.turn = Turn(scheduler, self.performer, number=41)
        self.now = 0.0

    def begin(self, *commands: Command) -> Changes | None:
        return self.turn.begin(commands, now=self.now, wall=1000.0 + self.now)

    def meanwhile(self, *beats: WorkerBeat) -> None:
        self.turn.meanwhile(beats, now=self.now, wall=1000.0 + self.now)

    def done(self) -> list[tuple[str, Any]]:
        return self.performer.take()

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.done()]


def hello(session: SessionId = S1) -> WorkerHello:
    return WorkerHello(session, Hello(PROTOCOL_VERSION, WorkerId("w1"), "i1", make_offer(), "c", [], [], 1000.0))


def submit(count: int = 1, to: int = 7) -> SubmitTasks:
    return SubmitTasks(drafts_of(count, 1000.0), ReplyTo(to))


def beat(session: SessionId = S1) -> WorkerBeat:
    return WorkerBeat(session, Heartbeat(1000.0, Usage()))


def test_first_turn_is_asked_for_at_once() -> None:
    assert Desk().done() == [("wake", 0.0)]


def test_nothing_is_seen_before_it_is_saved() -> None:
    desk = Desk()
    desk.done()
    changes = desk.begin(hello(), submit())
    assert changes is not None
    assert [facts.seq for facts in changes.accepted] == [1]
    assert desk.turn.is_saving
    assert desk.done() == []
    desk.turn.finish()
    assert desk.turn.number == 42


def test_duties_are_in_order_reply_then_send_then_publish_then_wake() -> None:
    desk = Desk()
    desk.begin(hello())
    desk.turn.finish()
    desk.begin(submit())
    desk.turn.finish()
    desk.done()
    report = ReportArrived(S1, Report(1, [], [Ended(TaskSeq(1), 1, None)]))
    changes = desk.begin(report, submit(to=8), CancelTasks([TaskSeq(1)], ReplyTo(9)))
    desk.turn.finish()
    done = desk.done()
    assert [kind for kind, _ in done] == ["reply", "reply", "send", "send", "publish", "wake"]
    replies = dict(told for kind, told in done if kind == "reply")
    assert replies[ReplyTo(9)] == Settled([])
    assert isinstance(replies[ReplyTo(8)], Accepted)
    assert [type(told) for kind, told in done if kind == "send"] == [ReportAck, Assign]
    assert only(told for kind, told in done if kind == "publish") == (44, changes)


def test_welcome_goes_before_the_first_assignment() -> None:
    desk = Desk()
    desk.begin(submit())
    desk.turn.finish()
    desk.done()
    desk.begin(hello())
    desk.turn.finish()
    assert [type(told) for kind, told in desk.done() if kind == "send"] == [Welcome, Assign]


def test_turn_that_changes_nothing_is_over_at_once() -> None:
    desk = Desk()
    desk.done()
    assert desk.begin(CancelTasks([TaskSeq(5)], ReplyTo(1))) is None
    assert not desk.turn.is_saving
    assert desk.done() == [("reply", (1, Settled([])))]
    assert desk.turn.number == 41


def test_commits_are_numbered_without_gaps() -> None:
    desk = Desk()
    for expected in (42, 43, 44):
        assert desk.begin(submit()) is not None
        desk.turn.finish()
        assert desk.turn.number == expected
        desk.begin(Tick())


def test_abandoned_turn_refuses_all_who_wait_and_does_nothing_else() -> None:
    desk = Desk()
    desk.begin(hello(), submit(to=7), submit(to=8), CancelTasks([TaskSeq(99)], ReplyTo(9)))
    desk.done()
    error = StoreUnavailable("the disk is full")
    desk.turn.abandon(error)
    assert desk.done() == [("refuse", (to, error)) for to in (9, 7, 8)]
    assert desk.turn.number == 41


def test_heartbeats_are_answered_while_a_save_is_under_way() -> None:
    desk = Desk()
    desk.begin(hello())
    desk.turn.finish()
    desk.begin(submit())
    desk.done()
    desk.meanwhile(beat())
    assert desk.done() == [("send", HeartbeatAck(1000.0))]
    assert desk.turn.is_saving


def test_heartbeats_of_strangers_are_not_answered() -> None:
    desk = Desk()
    desk.begin(submit())
    desk.done()
    desk.meanwhile(beat(SessionId(99)))
    assert desk.done() == []


def test_worker_that_comes_back_during_a_save_gets_work_right_after_it() -> None:
    desk = Desk()
    desk.begin(hello())
    desk.turn.finish()
    desk.now = 11.0
    desk.begin(Tick())  # it is suspicious now
    desk.begin(submit())
    desk.meanwhile(beat())
    desk.done()
    desk.turn.finish()
    done = desk.done()
    assert [told for kind, told in done if kind == "wake"] == [11.0]
    assert desk.begin(Tick()) is not None
    desk.turn.finish()
    assert Assign in [type(told) for kind, told in desk.done() if kind == "send"]


def test_only_one_save_is_under_way() -> None:
    desk = Desk()
    desk.begin(submit())
    with pytest.raises(AssertionError):
        desk.begin(Tick())


def test_message_for_a_closed_channel_is_not_sent_to_its_successor() -> None:
    desk = Desk()
    desk.begin(hello())
    desk.turn.finish()
    desk.begin(SessionClosed(S1), submit())
    desk.turn.finish()
    desk.done()
    desk.begin(hello(SessionId(2)))
    desk.turn.finish()
    sessions = {type(told): told for kind, told in desk.done() if kind == "send"}
    assert set(sessions) == {Welcome, Assign}

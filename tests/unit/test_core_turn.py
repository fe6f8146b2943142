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

    def finish(self) -> Changes | None:
        """The save under way succeeds; returns what the turn ahead saves."""
        following = self.turn.saved()
        self.turn.perform()
        return following

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
    desk.finish()
    assert desk.turn.number == 42


def test_duties_are_in_order_reply_then_send_then_publish_then_wake() -> None:
    desk = Desk()
    desk.begin(hello())
    desk.finish()
    desk.begin(submit())
    desk.finish()
    desk.done()
    report = ReportArrived(S1, Report(1, [], [Ended(TaskSeq(1), 1, None)]))
    changes = desk.begin(report, submit(to=8), CancelTasks([TaskSeq(1)], ReplyTo(9)))
    desk.finish()
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
    desk.finish()
    desk.done()
    desk.begin(hello())
    desk.finish()
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
        desk.finish()
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
    desk.finish()
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
    desk.finish()
    desk.now = 11.0
    desk.begin(Tick())  # it is suspicious now
    desk.begin(submit())
    desk.meanwhile(beat())
    desk.done()
    desk.finish()
    done = desk.done()
    assert [told for kind, told in done if kind == "wake"] == [11.0]
    assert desk.begin(Tick()) is not None
    desk.finish()
    assert Assign in [type(told) for kind, told in desk.done() if kind == "send"]


def test_turn_ahead_is_applied_and_seen_only_after_both_are_saved() -> None:
    desk = Desk()
    desk.begin(submit(to=7))
    desk.done()
    assert desk.begin(submit(to=8)) is None
    assert desk.turn.is_ahead
    following = desk.finish()
    assert following is not None
    assert [facts.seq for facts in following.accepted] == [2]
    assert [told[0] for kind, told in desk.done() if kind == "reply"] == [7]
    assert (desk.turn.is_saving, desk.turn.is_ahead) == (True, False)
    assert desk.finish() is None
    done = desk.done()
    assert [told[0] for kind, told in done if kind == "reply"] == [8]
    assert only(told for kind, told in done if kind == "publish")[0] == 43


def test_answer_of_a_turn_ahead_that_saves_nothing_waits_for_what_it_follows_from() -> None:
    desk = Desk()
    desk.begin(submit())
    desk.done()
    assert desk.begin(CancelTasks([TaskSeq(9)], ReplyTo(1))) is None
    assert desk.done() == []
    assert desk.finish() is None
    assert [told for kind, told in desk.done() if kind == "reply"][1:] == [(1, Settled([]))]
    assert not desk.turn.is_saving


def test_save_of_the_turn_ahead_may_begin_before_the_duties_of_the_first() -> None:
    desk = Desk()
    desk.begin(submit())
    desk.begin(submit(to=8))
    desk.done()
    assert desk.turn.saved() is not None
    assert desk.done() == []
    desk.turn.perform()
    assert "reply" in desk.kinds()


def test_no_more_than_one_turn_goes_ahead() -> None:
    desk = Desk()
    desk.begin(submit())
    desk.begin(Tick())
    with pytest.raises(AssertionError):
        desk.begin(Tick())


def test_turn_ahead_is_abandoned_with_the_one_that_it_follows_from() -> None:
    desk = Desk()
    desk.begin(submit(to=7))
    desk.begin(submit(to=8))
    desk.done()
    error = StoreUnavailable("the disk is full")
    desk.turn.abandon(error)
    assert desk.done() == [("refuse", (7, error)), ("refuse", (8, error))]
    assert not desk.turn.is_saving
    assert not desk.turn.is_ahead


def test_heartbeat_during_a_save_does_not_overtake_the_turn_ahead() -> None:
    desk = Desk()
    desk.begin(hello())
    desk.finish()
    desk.now = 11.0
    desk.begin(Tick())
    desk.begin(submit())
    desk.begin(submit(to=8))
    desk.meanwhile(beat())
    desk.finish()
    assert [kind for kind, told in desk.done() if (kind, told) == ("wake", 11.0)] == []
    desk.finish()
    assert [told for kind, told in desk.done() if kind == "wake"][-1] == 11.0


def test_message_for_a_closed_channel_is_not_sent_to_its_successor() -> None:
    desk = Desk()
    desk.begin(hello())
    desk.finish()
    desk.begin(SessionClosed(S1), submit())
    desk.finish()
    desk.done()
    desk.begin(hello(SessionId(2)))
    desk.finish()
    sessions = {type(told): told for kind, told in desk.done() if kind == "send"}
    assert set(sessions) == {Welcome, Assign}

"""The worker's side of exclusive tasks: what it stops when nobody answers, and when."""

from __future__ import annotations

from rota.core.agent import Agent
from rota.core.agent_commands import (
    AgentCommand,
    AgentEffect,
    BeatDue,
    ChannelLost,
    ChannelOpened,
    LeaseDue,
    MessageArrived,
    Run,
    SlotsReported,
    StopAttempt,
)
from rota.core.model import AttemptKey, Cause, Epoch, LaneId, TaskId, TaskSeq, WorkerId
from rota.core.protocol import PROTOCOL_VERSION, Assign, Assignment, Ended, HeartbeatAck, Usage, Welcome
from tests.support.core import make_offer

A, B = (TaskSeq(1), 1), (TaskSeq(2), 1)


class Bench:
    """A welcome agent on a steady clock that a test moves. The lease is 30 s with 5 s of grace."""

    def __init__(self) -> None:
        self.agent = Agent(WorkerId("w1"), instance="i1", offer=make_offer())
        self.now = 0.0
        self.connect()

    def do(self, command: AgentCommand) -> list[AgentEffect]:
        return self.agent.apply(command, now=self.now)

    def connect(self, *, answered_after_s: float = 0.0) -> list[AgentEffect]:
        self.do(ChannelOpened(self.now))
        self.now += answered_after_s
        return self.do(MessageArrived(Welcome(PROTOCOL_VERSION, "c1", Epoch(1), 3.0, [])))

    def assign(self, *keys: AttemptKey, leased: AttemptKey = A) -> list[AgentEffect]:
        given = [Assignment(*key, LaneId(key[0]), 1, TaskId(f"t{key[0]}"), b"") for key in keys]
        return self.do(MessageArrived(Assign(Epoch(1), given, [leased])))

    def beat(self) -> float:
        self.do(BeatDue(wall=1000.0 + self.now, usage=Usage()))
        return 1000.0 + self.now

    def answer(self, wall: float) -> list[AgentEffect]:
        return self.do(MessageArrived(HeartbeatAck(wall)))

    def look_at(self, now: float) -> list[AgentEffect]:
        self.now = now
        return self.do(LeaseDue())


STOP_A = StopAttempt(A, Cause.WORKER_LOST, 5.0)


def test_exclusive_attempt_is_stopped_when_nobody_answered_for_the_lease() -> None:
    bench = Bench()
    bench.assign(A, B)
    assert bench.agent.lease_ends_at == 30.0
    assert bench.look_at(29.9) == []
    assert bench.look_at(30.0) == [STOP_A]
    assert bench.look_at(40.0) == []  # told once


def test_ordinary_attempt_runs_on() -> None:
    bench = Bench()
    bench.do(MessageArrived(Assign(Epoch(1), [Assignment(*B, LaneId(1), 1, TaskId("t2"), b"")])))
    assert bench.agent.lease_ends_at is None
    assert bench.look_at(1e6) == []


def test_lease_counts_from_when_the_heartbeat_was_sent() -> None:
    bench = Bench()
    bench.assign(A)
    bench.now = 10.0
    wall = bench.beat()
    bench.now = 25.0
    bench.answer(wall)
    assert bench.agent.lease_ends_at == 40.0


def test_slow_answer_to_a_hello_does_not_extend_the_lease() -> None:
    bench = Bench()
    bench.assign(A)
    bench.now = 20.0
    bench.do(ChannelLost())
    bench.connect(answered_after_s=8.0)
    assert bench.agent.lease_ends_at == 50.0


def test_answer_on_an_old_channel_counts_for_nothing() -> None:
    bench = Bench()
    bench.assign(A)
    bench.now = 10.0
    wall = bench.beat()
    bench.do(ChannelLost())
    bench.do(ChannelOpened(2000.0))
    bench.answer(wall)
    assert bench.agent.lease_ends_at == 30.0


def test_heartbeat_without_a_channel_is_not_asked() -> None:
    bench = Bench()
    bench.assign(A)
    bench.do(ChannelLost())
    bench.now = 12.0
    assert bench.do(BeatDue(5.0, Usage())) == []
    bench.answer(5.0)
    assert bench.agent.lease_ends_at == 30.0


def test_assignment_that_was_on_its_way_for_longer_than_the_lease_waits_for_an_answer() -> None:
    bench = Bench()
    bench.now = 31.0
    effects = bench.assign(A, B)
    assert [effect.attempts[0].task for effect in effects if isinstance(effect, Run)] == [B[0]]
    assert bench.agent.lease_ends_at is None
    wall = bench.beat()
    [run] = bench.answer(wall)
    assert isinstance(run, Run)
    assert run.attempts[0].task == A[0]
    assert bench.agent.lease_ends_at == 61.0


def test_attempt_that_has_ended_is_not_watched_any_more() -> None:
    bench = Bench()
    bench.assign(A)
    bench.do(SlotsReported([], [Ended(*A, None)], []))
    assert bench.agent.lease_ends_at is None


def test_attempt_that_a_welcome_stops_is_not_watched_any_more() -> None:
    bench = Bench()
    bench.assign(A)
    bench.do(MessageArrived(Welcome(PROTOCOL_VERSION, "c1", Epoch(2), 3.0, [A])))
    assert bench.agent.lease_ends_at is None

"""The worker's side: what it was given, what it owes, and that both survive broken channels and changes of mind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import pytest

from rota.core.agent import MARKS_MAX, UNACKNOWLEDGED_BYTES_MAX, Agent
from rota.core.agent_commands import (
    AgentCommand,
    AgentEffect,
    BeatDue,
    ChannelLost,
    ChannelOpened,
    HangUp,
    HurryUp,
    LeaveWished,
    MarksReported,
    MessageArrived,
    Run,
    SendUp,
    SlotQuarantined,
    SlotsReported,
    StopAttempt,
    TakeBack,
)
from rota.core.model import AttemptKey, Cause, Epoch, LaneId, TaskId, TaskSeq, WorkerId
from rota.core.protocol import (
    PROTOCOL_VERSION,
    Assign,
    Assignment,
    Closing,
    Ended,
    FromCoordinator,
    Heartbeat,
    HeartbeatAck,
    Hello,
    Leaving,
    Mark,
    Marks,
    OutputChunk,
    Recall,
    Refused,
    Report,
    ReportAck,
    SlotsLost,
    Started,
    Stop,
    Usage,
    Welcome,
)
from rota.core.reports import REPORT_BYTES_MAX, cut_reports
from rota.wire.messages import WORKER_CODEC
from tests.support.core import make_offer, only

T = TypeVar("T")

FRAME_BYTES_MAX = 1 << 20


class Bench:
    """An agent, and shorthands for what is said to it."""

    def __init__(self, *, is_welcome: bool = True) -> None:
        self.agent = Agent(WorkerId("w1"), instance="i1", offer=make_offer())
        self.now = 0.0
        if is_welcome:
            self.connect()

    def do(self, command: AgentCommand) -> list[AgentEffect]:
        return self.agent.apply(command, now=self.now)

    def hear(self, message: FromCoordinator) -> list[AgentEffect]:
        return self.do(MessageArrived(message))

    def connect(self, *, cluster: str = "c1", stop: Sequence[AttemptKey] = ()) -> list[AgentEffect]:
        self.do(ChannelOpened(5.0))
        return self.hear(Welcome(PROTOCOL_VERSION, cluster, Epoch(1), 3.0, list(stop)))

    def lose_channel(self) -> None:
        assert self.do(ChannelLost()) == []

    def assign(self, *keys: AttemptKey) -> list[AgentEffect]:
        return self.hear(Assign(Epoch(1), [assignment(key) for key in keys]))

    def slots(
        self,
        *,
        started: Sequence[AttemptKey] = (),
        ended: Sequence[Ended] = (),
        output: Sequence[OutputChunk] = (),
    ) -> list[AgentEffect]:
        starts = [Started(*key, 6.0) for key in started]
        return self.do(SlotsReported(starts, list(ended), list(output)))

    def end(self, *keys: AttemptKey) -> list[AgentEffect]:
        return self.slots(ended=[Ended(*key, None) for key in keys])

    def hello(self) -> Hello:
        return only(sent(self.do(ChannelOpened(9.0)), Hello))

    def fill(self, key: AttemptKey) -> None:
        """Let unacknowledged output grow over the limit."""
        piece = OutputChunk(*key, "stdout", 0, b"x" * (1 << 20))
        self.slots(output=[piece] * (UNACKNOWLEDGED_BYTES_MAX // len(piece.data) + 1))


def attempt(task: int, number: int = 1) -> AttemptKey:
    return TaskSeq(task), number


def assignment(key: AttemptKey) -> Assignment:
    return Assignment(*key, LaneId(1), key[0], TaskId(f"t{key[0]}"), b"")


def sent(effects: Sequence[AgentEffect], kind: type[T]) -> list[T]:
    return [effect.message for effect in effects if isinstance(effect, SendUp) and isinstance(effect.message, kind)]


def told(effects: Sequence[AgentEffect]) -> list[tuple[AttemptKey, Cause | None]]:
    """The ends in what is sent."""
    return [((end.task, end.attempt), end.cause) for report in sent(effects, Report) for end in report.ended]


A, B, C = attempt(1), attempt(2), attempt(3)


# What is owed


def test_report_is_sent_again_until_it_is_acknowledged() -> None:
    bench = Bench()
    bench.assign(A, B)
    first = only(sent(bench.end(A), Report))
    second = only(sent(bench.end(B), Report))
    assert [first.number, second.number] == [1, 2]

    bench.lose_channel()
    assert sent(bench.connect(), Report) == [first, second]
    bench.hear(ReportAck(1))
    bench.lose_channel()
    assert sent(bench.connect(), Report) == [second]
    bench.hear(ReportAck(2))
    bench.lose_channel()
    assert sent(bench.connect(), Report) == []


def test_what_happens_without_a_channel_is_kept_in_order() -> None:
    bench = Bench()
    bench.assign(A, B)
    bench.lose_channel()
    assert bench.slots(started=[A]) == []
    assert bench.end(A) == []
    assert bench.slots(started=[B]) == []
    reports = sent(bench.connect(), Report)
    assert [report.number for report in reports] == [1, 2, 3]
    assert [bool(report.ended) for report in reports] == [False, True, False]


def test_hello_says_what_is_held_and_what_has_ended() -> None:
    bench = Bench()
    bench.assign(A, B, C)
    bench.slots(started=[A, B])
    bench.end(A)
    bench.lose_channel()
    hello = bench.hello()
    assert (hello.version, hello.worker, hello.instance, hello.cluster) == (PROTOCOL_VERSION, "w1", "i1", "c1")
    assert [(held.task, held.attempt, held.started) for held in hello.holds] == [(2, 1, True), (3, 1, False)]
    assert [(held.lane, held.place) for held in hello.holds] == [(1, 2), (1, 3)]
    assert hello.ended == [A]
    bench.hear(ReportAck(2))
    assert bench.hello().ended == []


def test_nothing_is_sent_between_hello_and_welcome() -> None:
    bench = Bench(is_welcome=False)
    assert [type(effect) for effect in bench.do(ChannelOpened(1.0))] == [SendUp]
    assert bench.do(BeatDue(2.0, Usage())) == []
    assert bench.do(SlotQuarantined("stuck")) == []
    effects = bench.hear(Welcome(PROTOCOL_VERSION, "c1", Epoch(1), 1.5, []))
    assert sent(effects, SlotsLost) == [SlotsLost(1, "stuck")]
    assert bench.agent.heartbeat_s == 1.5
    assert sent(bench.do(BeatDue(2.0, Usage())), Heartbeat) == [Heartbeat(2.0, Usage())]
    assert bench.hear(HeartbeatAck(2.0)) == []


def test_attempt_that_began_and_ended_in_one_breath_is_told_of_once() -> None:
    bench = Bench()
    bench.assign(A, B)
    report = only(sent(bench.slots(started=[A, B], ended=[Ended(*A, None)]), Report))
    assert [(start.task, start.attempt) for start in report.started] == [B]
    assert [(end.task, end.attempt) for end in report.ended] == [A]


def test_what_slots_tell_of_unknown_attempts_is_dropped() -> None:
    bench = Bench()
    assert bench.slots(started=[A], ended=[Ended(*B, None)], output=[OutputChunk(*C, "stdout", 0, b"x")]) == []


# What it is told


def test_assignments_run_in_the_order_they_came() -> None:
    bench = Bench()
    run = only(bench.assign(B, A))
    assert isinstance(run, Run)
    assert [given.task for given in run.attempts] == [2, 1]
    assert bench.agent.holds == 2


def test_stop_goes_to_the_slot_that_has_the_attempt() -> None:
    bench = Bench()
    bench.assign(A)
    assert bench.hear(Stop([A], Cause.CANCELLED, 7.0)) == [StopAttempt(A, Cause.CANCELLED, 7.0)]


def test_stop_for_what_never_came_is_answered() -> None:
    effects = Bench().hear(Stop([A], Cause.EXPIRED, 7.0))
    assert told(effects) == [(A, Cause.EXPIRED)]


def test_stop_for_what_has_ended_is_not_answered_twice() -> None:
    bench = Bench()
    bench.assign(A)
    bench.end(A)
    assert bench.hear(Stop([A], Cause.CANCELLED, 7.0)) == []


def test_recall_asks_the_slots_for_what_they_have() -> None:
    bench = Bench()
    bench.assign(A, B)
    assert bench.hear(Recall([B, C])) == [TakeBack([B])]
    assert bench.hear(Recall([C])) == []
    assert told(bench.slots(ended=[Ended(*B, Cause.RETURNED)])) == [(B, Cause.RETURNED)]


def test_welcome_stops_what_is_not_wanted_any_more() -> None:
    bench = Bench()
    bench.assign(A, B)
    bench.lose_channel()
    assert bench.connect(stop=[B]) == [StopAttempt(B, Cause.CANCELLED, 0.0)]
    assert bench.agent.holds == 2


def test_new_work_waits_until_what_a_welcome_stops_is_gone() -> None:
    """The coordinator counts on the room that it takes."""
    bench = Bench()
    bench.assign(A, B)
    bench.lose_channel()
    bench.connect(stop=[B])
    assert bench.assign(C) == []
    assert bench.slots(ended=[Ended(*B, Cause.CANCELLED)]) == [Run([assignment(C)])]


@pytest.mark.parametrize(
    "message,hang_up",
    [
        (Refused("worker_id_taken", "in use", True), HangUp("in use", True)),
        (Refused("protocol_version", "too old", False), HangUp("too old", False)),
        (Closing("restarting"), HangUp("restarting", True)),
    ],
)
def test_being_sent_away_says_whether_to_come_back(message: FromCoordinator, hang_up: HangUp) -> None:
    assert Bench(is_welcome=False).hear(message) == [hang_up]


def test_worker_whose_id_went_to_another_stops_what_it_runs() -> None:
    bench = Bench()
    bench.assign(A, B)
    bench.lose_channel()
    assert bench.hello().holds
    effects = bench.hear(Refused("worker_id_taken", "in use", True))
    assert effects == [*(StopAttempt(key, Cause.CANCELLED, 0.0) for key in (A, B)), HangUp("in use", True)]
    assert bench.agent.holds == 2, "they are not gone yet"
    assert bench.hear(Refused("worker_id_taken", "in use", True)) == [HangUp("in use", True)]
    bench.end(A, B)
    assert bench.agent.holds == 0
    assert bench.hello().holds == []


def test_other_refusals_stop_nothing() -> None:
    bench = Bench()
    bench.assign(A)
    assert bench.hear(Refused("protocol_version", "too old", False)) == [HangUp("too old", False)]


# Backlog


def test_full_backlog_parks_new_work_until_there_is_room() -> None:
    bench = Bench()
    bench.assign(A)
    bench.fill(A)
    assert bench.assign(B) == []
    assert bench.agent.holds == 2
    assert not bench.hello().holds[1].started
    [run] = bench.hear(ReportAck(10_000))
    assert run == Run([assignment(B)])
    assert bench.assign(C) == [Run([assignment(C)])]


def test_parked_work_that_is_cancelled_never_runs() -> None:
    bench = Bench()
    bench.assign(A)
    bench.fill(A)
    bench.assign(B, C)
    assert told(bench.hear(Stop([B], Cause.CANCELLED, 5.0))) == [(B, Cause.CANCELLED)]
    effects = bench.hear(ReportAck(10_000))
    assert effects == [Run([assignment(C)])]


def test_parked_work_that_is_asked_back_is_returned_at_once() -> None:
    bench = Bench()
    bench.assign(A)
    bench.fill(A)
    bench.assign(B)
    effects = bench.hear(Recall([A, B]))
    assert TakeBack([A]) in effects
    assert told(effects) == [(B, Cause.RETURNED)]
    assert bench.hear(ReportAck(10_000)) == []


def test_parked_work_that_a_welcome_stops_is_answered_after_what_was_owed() -> None:
    bench = Bench()
    bench.assign(A)
    bench.fill(A)
    bench.assign(B)
    bench.lose_channel()
    effects = bench.connect(stop=[B])
    numbers = [report.number for report in sent(effects, Report)]
    assert numbers == sorted(set(numbers))
    assert told(effects) == [(B, Cause.CANCELLED)]
    assert not any(isinstance(effect, StopAttempt) for effect in effects)


# Another cluster


def test_work_of_another_cluster_is_stopped_and_not_told_of() -> None:
    bench = Bench()
    bench.assign(A, B)
    bench.end(B)
    bench.lose_channel()
    effects = bench.connect(cluster="c2")
    assert effects == [StopAttempt(A, Cause.CANCELLED, 0.0)]
    assert bench.slots(started=[A], output=[OutputChunk(*A, "stdout", 0, b"old")]) == []
    assert sent(bench.slots(ended=[Ended(*A, Cause.CANCELLED)]), Report) == []


def test_new_work_waits_until_that_of_another_cluster_is_gone() -> None:
    bench = Bench()
    bench.assign(A)
    bench.lose_channel()
    bench.connect(cluster="c2")
    assert bench.assign(A) == []  # the same number, another task
    assert bench.slots(started=[A], output=[OutputChunk(*A, "stdout", 0, b"old")]) == []
    effects = bench.slots(ended=[Ended(*A, Cause.CANCELLED)])
    assert effects == [Run([assignment(A)])]
    assert told(bench.end(A)) == [(A, None)]


def test_cancel_of_new_work_that_waits_does_not_stop_the_old() -> None:
    bench = Bench()
    bench.assign(A)
    bench.lose_channel()
    bench.connect(cluster="c2")
    bench.assign(A, B)
    assert told(bench.hear(Stop([A], Cause.CANCELLED, 0.0))) == [(A, Cause.CANCELLED)]
    assert bench.slots(ended=[Ended(*A, Cause.CANCELLED)]) == [Run([assignment(B)])]


def test_parked_work_of_another_cluster_is_forgotten() -> None:
    bench = Bench()
    bench.assign(A)
    bench.fill(A)
    bench.assign(B)
    bench.lose_channel()
    assert bench.connect(cluster="c2") == [StopAttempt(A, Cause.CANCELLED, 0.0)]
    bench.slots(ended=[Ended(*A, Cause.CANCELLED)])
    assert bench.agent.holds == 0
    assert bench.assign(C) == [Run([assignment(C)])]


# Leaving


def test_leaving_worker_gives_back_what_has_not_started_and_goes_when_all_is_told() -> None:
    bench = Bench()
    bench.assign(A, B)
    effects = bench.do(LeaveWished())
    assert effects == [SendUp(Leaving(done=False)), TakeBack([A, B])]
    bench.slots(ended=[Ended(*B, Cause.RETURNED)])
    assert sent(bench.end(A), Leaving) == []
    assert not bench.agent.is_done
    assert sent(bench.hear(ReportAck(2)), Leaving) == [Leaving(done=True)]
    assert bench.agent.is_done


def test_idle_worker_leaves_at_once() -> None:
    bench = Bench()
    assert bench.do(LeaveWished()) == [SendUp(Leaving(done=False)), SendUp(Leaving(done=True))]


def test_assignment_that_crossed_the_leave_is_returned() -> None:
    bench = Bench()
    bench.do(LeaveWished())
    assert told(bench.assign(A)) == [(A, Cause.RETURNED)]


def test_leaving_is_said_again_on_a_new_channel() -> None:
    bench = Bench()
    bench.assign(A)
    bench.lose_channel()
    bench.do(LeaveWished())
    assert sent(bench.connect(), Leaving) == [Leaving(done=False)]


def test_hurry_stops_what_runs_so_that_it_runs_elsewhere() -> None:
    bench = Bench()
    bench.assign(A, B)
    bench.do(LeaveWished())
    assert bench.do(HurryUp(2.0)) == [StopAttempt(key, Cause.PREEMPTED, 2.0) for key in (A, B)]


def test_quarantined_slots_are_counted() -> None:
    bench = Bench()
    assert sent(bench.do(SlotQuarantined("one")), SlotsLost) == [SlotsLost(1, "one")]
    assert sent(bench.do(SlotQuarantined("two")), SlotsLost) == [SlotsLost(2, "two")]


# Marks


def test_marks_of_running_attempts_are_told() -> None:
    bench = Bench()
    bench.assign(A)
    mark = Mark(*A, 0.4, "parsing")
    assert sent(bench.do(MarksReported([mark, Mark(*B, 0.5, "unknown")])), Marks) == [Marks([mark])]


def test_marks_are_neither_kept_nor_sent_without_a_channel() -> None:
    bench = Bench()
    bench.assign(A)
    bench.lose_channel()
    assert bench.do(MarksReported([Mark(*A, 0.4, "")])) == []
    assert sent(bench.connect(), Marks) == []


def test_one_message_has_so_many_marks_at_most() -> None:
    bench = Bench()
    keys = [(TaskSeq(number), 1) for number in range(1, MARKS_MAX + 10)]
    bench.assign(*keys)
    (marks,) = sent(bench.do(MarksReported([Mark(*key, None, "") for key in keys])), Marks)
    assert len(marks.marks) == MARKS_MAX


# Pieces


def test_reports_are_cut_so_that_each_fits_a_frame() -> None:
    chunk = OutputChunk(*A, "stdout", 0, b"x" * (64 << 10))
    ends = [Ended(TaskSeq(n), 1, None, stdout=b"o" * 4096, stderr=b"e" * 4096) for n in range(200)]
    starts = [Started(TaskSeq(n), 1, 1.0) for n in range(300, 20_300)]
    pieces = cut_reports(starts, ends, [chunk] * 20)
    assert all(size <= REPORT_BYTES_MAX for _, size in pieces)
    for number, (parts, _) in enumerate(pieces):
        assert len(WORKER_CODEC.encode(Report(number, *parts))) < FRAME_BYTES_MAX
    assert [piece for parts, _ in pieces for piece in parts[2]] == [chunk] * 20
    assert [end for parts, _ in pieces for end in parts[1]] == ends
    assert [start for parts, _ in pieces for start in parts[0]] == starts


def test_values_of_functions_count_towards_the_size_of_a_report() -> None:
    ends = [Ended(TaskSeq(n), 1, None, value=bytes(64 << 10), blobs=("ab" * 32,)) for n in range(20)]
    for number, (parts, size) in enumerate(cut_reports([], ends, [])):
        assert size <= REPORT_BYTES_MAX
        assert len(WORKER_CODEC.encode(Report(number, *parts))) < FRAME_BYTES_MAX


def test_output_goes_before_ends_and_ends_before_starts() -> None:
    chunk = OutputChunk(*A, "stdout", 0, b"x" * REPORT_BYTES_MAX)
    end = Ended(*A, None, message="m" * REPORT_BYTES_MAX)
    start = Started(*B, 1.0)
    assert [parts for parts, _ in cut_reports([start], [end], [chunk])] == [
        ([], [], [chunk]),
        ([], [end], []),
        ([start], [], []),
    ]
    assert cut_reports([], [], []) == []

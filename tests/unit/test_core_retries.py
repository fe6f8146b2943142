"""What the end of an attempt leads to: causes, the two budgets, backoff, and what is on the record."""

from __future__ import annotations

import random

import pytest

from rota.core.lifecycle import JITTER, TRANSITIONS, IllegalTransition, move, retry_delay_s
from rota.core.model import FREE_CAUSES, MACHINE_CAUSES, TASK_CAUSES, Backoff, Cause, Reason, TaskSeq, TaskState, Terms
from rota.core.protocol import Ended, OutputChunk, ReportAck
from rota.core.task import Task
from tests.support.core import Core, assignments, drafts_of, key, messages, only, saved


@pytest.mark.parametrize("cause", sorted(TASK_CAUSES))
def test_fault_of_the_task_uses_up_its_retries(cause: Cause) -> None:
    core = Core()
    core.hello()
    seq = only(core.submit(retries=1, backoff=0, losses=0))

    core.end(seq, cause, exit_code=3)
    assert core.states([seq]) == ["assigned"]
    assert core.progress(seq).attempt == 2
    assert (core.progress(seq).retries_used, core.progress(seq).losses_used) == (1, 0)

    core.end(seq, cause, exit_code=4, message="again")
    progress = core.progress(seq)
    assert (progress.state, progress.cause, progress.exit_code) == (TaskState.FAILED, cause, 4)
    assert progress.message == "again"
    assert core.state.counts.failed == {cause: 1}


@pytest.mark.parametrize("cause", sorted(MACHINE_CAUSES))
def test_fault_of_the_machine_uses_up_its_losses(cause: Cause) -> None:
    core = Core()
    core.hello()
    seq = only(core.submit(losses=1, retries=0, backoff=0))
    core.end(seq, cause)
    assert core.states([seq]) == ["assigned"]
    assert (core.progress(seq).retries_used, core.progress(seq).losses_used) == (0, 1)
    core.end(seq, cause)
    assert (core.progress(seq).state, core.progress(seq).cause) == (TaskState.FAILED, cause)


@pytest.mark.parametrize("cause", sorted(FREE_CAUSES))
def test_nobodys_fault_is_counted_nowhere(cause: Cause) -> None:
    core = Core()
    core.hello()
    seq = only(core.submit(losses=0, retries=0))
    for attempt in (2, 3, 4):
        core.end(seq, cause)
        assert core.progress(seq).attempt == attempt
    assert (core.progress(seq).retries_used, core.progress(seq).losses_used) == (0, 0)
    assert core.state.counts.attempts_returned == (3 if cause is Cause.RETURNED else 0)


def test_every_end_is_somebodys_fault_or_final() -> None:
    final = {Cause.IMPOSSIBLE, Cause.DEPENDENCY, Cause.EXPIRED}
    groups = (TASK_CAUSES, MACHINE_CAUSES, FREE_CAUSES, final)
    assert sorted(cause for group in groups for cause in group) == sorted(Cause)


def test_success_ends_the_task_with_what_the_worker_measured() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit(retries=5))
    core.start(seq)
    core.now += 7.0
    effects = core.end(
        seq, exit_code=0, cpu_seconds=1.5, peak_memory_kib=900, stdout=b"hi", stdout_bytes=2, stderr_bytes=9999
    )
    progress = core.progress(seq)
    assert (progress.state, progress.cause, progress.exit_code) == (TaskState.COMPLETED, None, 0)
    assert (progress.cpu_seconds, progress.peak_memory_kib) == (1.5, 900)
    assert (progress.stdout, progress.stdout_bytes, progress.stderr_bytes) == (b"hi", 2, 9999)
    assert (progress.worker, progress.instance, progress.attempt) == ("w1", "i1", 1)
    assert progress.ended_at == core.wall
    assert progress.started_at == core.wall - 7.0
    assert [ack.number for ack in messages(effects, ReportAck)] == [2]
    assert seq not in core.state.tasks


def test_superseded_attempt_gets_a_row_of_its_own() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit(retries=1, backoff=5))
    queued_at = core.wall
    core.now += 1.0
    core.start(seq)
    core.now += 1.0
    core.end(seq, "exit", exit_code=7, stderr=b"oh", stderr_bytes=2)

    row = only(core.record.attempts[seq])
    assert (row.number, row.worker, row.cause, row.exit_code, row.stderr) == (1, "w1", "exit", 7, b"oh")
    assert (row.queued_at, row.started_at, row.ended_at) == (queued_at, queued_at + 1.0, queued_at + 2.0)
    waiting = core.progress(seq)
    assert (waiting.state, waiting.attempt, waiting.worker, waiting.exit_code) == (TaskState.PENDING, 1, None, None)
    assert waiting.ready_at is not None
    assert core.wall < waiting.ready_at <= core.wall + 5.0


def test_retry_waits_for_its_backoff_and_no_longer() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit(retries=1, backoff=8))
    core.end(seq, "exit")
    ready_in_s = (core.progress(seq).ready_at or 0.0) - core.wall
    assert 8.0 * (1 - JITTER) <= ready_in_s <= 8.0

    assert assignments(core.pass_time(ready_in_s - 0.01)) == []
    assert core.state.held[Reason.BACKOFF] == 1
    assert [key(given) for given in assignments(core.pass_time(0.02))] == [(seq, 2)]
    assert core.progress(seq).ready_at is None


def test_end_of_an_earlier_backoff_does_not_cut_a_later_one_short() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit(retries=1, backoff={"base": 100, "max": 100}))
    core.end(seq, "exit")
    core.cancel(seq)
    core.pass_time(50.0)
    core.retry(seq)
    core.end(seq, "exit")
    assert assignments(core.pass_time(70.0)) == []
    assert [key(given) for given in assignments(core.pass_time(31.0))] == [(seq, 3)]


def test_retry_with_a_record_from_before_another_retry_changes_nothing() -> None:
    """The second was on its way when the task was brought back and cancelled again, before a new attempt began."""
    core = Core()
    core.hello()
    seq = only(core.submit())
    core.end(seq, "exit")
    late = core.retry_command(seq)
    core.set_drained("w1", drained=True)
    core.retry(seq)
    core.pass_time(1.0)
    core.cancel(seq)
    core.do(late)
    assert core.states([seq]) == ["cancelled"]
    core.retry(seq)
    assert core.states([seq]) == ["pending"]


def test_backoff_grows_with_each_failure_up_to_its_cap() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit(retries=6, backoff={"base": 1, "factor": 3, "max": 20}))
    for expected_s in (1.0, 3.0, 9.0, 20.0, 20.0, 20.0):
        core.end(seq, "exit")
        delay_s = (core.progress(seq).ready_at or 0.0) - core.wall
        assert expected_s * (1 - JITTER) - 1e-6 <= delay_s <= expected_s + 1e-6
        core.pass_time(expected_s + 0.01)
    core.end(seq, "exit")
    assert core.states([seq]) == ["failed"]


def test_tasks_that_failed_together_do_not_return_together() -> None:
    core = Core()
    core.hello(cpu=20_000)
    seqs = core.submit(20, retries=1, backoff=10)
    core.report(ended=[Ended(seq, 1, Cause.EXIT, run_s=9.0) for seq in seqs])
    assert len({core.progress(seq).ready_at for seq in seqs}) == 20


def test_lost_worker_costs_no_delay_and_a_troubled_agent_does() -> None:
    core = Core()
    core.hello("w1", cpu=1000)
    lost = only(core.submit(backoff=100))
    core.hello("w2", cpu=1000)
    core.hello("w1", cpu=1000, instance="i2", holds=[])
    core.close("w1")
    core.hello("w1", cpu=1000, instance="i2")
    assert core.states([lost]) == ["assigned"]
    assert core.progress(lost).losses_used == 1
    core.end(lost, "agent-error")
    assert core.states([lost]) == ["pending"]


@pytest.mark.parametrize("failures", [1, 2, 5, 64, 1_000_000])
def test_delay_never_overflows(failures: int) -> None:
    backoff = Backoff(base_s=3e8, factor=100.0, cap_s=3e8)
    assert 0.0 < retry_delay_s(backoff, failures, random.Random(1)) <= 3e8


@pytest.mark.parametrize("before", list(TaskState))
@pytest.mark.parametrize("after", list(TaskState))
def test_state_changes_only_along_the_arrows(before: TaskState, after: TaskState) -> None:
    task = Task(TaskSeq(1), None, _terms(), b"", state=before)
    if after in TRANSITIONS[before]:
        move(task, after)
        assert task.state is after
    else:
        with pytest.raises(IllegalTransition, match=f"{before.word} -> {after.word}"):
            move(task, after)
        assert task.state is before


def test_lanes_and_places_go_on_counting_after_a_restart() -> None:
    core = Core()
    core.hello()
    first, second = core.submit(2)
    again = core.restarted()
    again.hello(holds=[core.held(first), core.held(second)])
    given = only(assignments(again.submit_drafts(drafts_of(1, again.wall))))
    assert given.lane > core.held(second).lane
    assert given.place > core.held(second).place


# What is not about the current attempt


def test_result_of_a_superseded_attempt_is_dropped_and_counted() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit(retries=3, backoff=0))
    core.end(seq, "exit")
    before = core.progress(seq)

    effects = core.report(ended=[Ended(seq, 1, None)], started=[(seq, 1)])

    assert saved(effects).is_empty()
    assert messages(effects, ReportAck)  # else it would come again and again
    assert core.progress(seq) == before
    assert core.state.counts.reports_stale == 2


def test_result_from_another_worker_is_dropped() -> None:
    core = Core()
    core.hello("w1")
    seq = only(core.submit())
    core.hello("w2")
    core.report("w2", ended=[Ended(seq, 1, None)], output=[OutputChunk(seq, 1, "stdout", 0, b"lies")])
    assert core.states([seq]) == ["assigned"]
    assert core.record.output == []
    assert core.state.counts.reports_stale == 2


def test_result_on_a_channel_that_was_replaced_is_not_acknowledged() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit())
    old = core.sessions["w1"]
    core.hello(holds=[core.held(seq)])
    effects = core.report(ended=[Ended(seq, 1, None)], session=old)
    assert not messages(effects, ReportAck)
    assert core.states([seq]) == ["assigned"]


def test_the_same_end_twice_counts_once() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit())
    core.report(ended=[Ended(seq, 1, None), Ended(seq, 1, Cause.EXIT)])
    core.report(ended=[Ended(seq, 1, Cause.EXIT)])
    assert core.states([seq]) == ["completed"]
    assert core.state.counts.completed == 1


def test_output_is_saved_with_the_end_that_it_came_with_and_not_after_it() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit())
    chunk = OutputChunk(seq, 1, "stdout", 0, b"x" * 5000)
    core.report(ended=[Ended(seq, 1, None)], output=[chunk])
    assert core.record.output == [chunk]
    core.report(output=[chunk])  # the same report once more
    assert core.record.output == [chunk]


def test_times_of_a_worker_are_shown_on_our_clock() -> None:
    core = Core()
    core.hello(clock_ahead_s=3600.0)
    seq = only(core.submit(retries=1))
    core.now += 10.0
    theirs = core.wall + 3600.0
    core.end(seq, "exit", started_at=theirs - 9.0, ended_at=theirs - 4.0)
    row = only(core.record.attempts[seq])
    assert (row.started_at, row.ended_at) == (core.wall - 9.0, core.wall - 4.0)


def test_end_that_was_reported_late_is_when_it_was() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit())
    core.start(seq)
    ended_at = core.wall + 5.0
    core.close()
    core.now += 600.0
    core.hello(ended=[(seq, 1)])
    core.report(ended=[Ended(seq, 1, None, started_at=ended_at - 5.0, ended_at=ended_at)])
    assert core.progress(seq).ended_at == ended_at


def test_nothing_ends_in_the_future_or_before_it_began() -> None:
    core = Core()
    core.hello()
    first, second = core.submit(2)
    core.pass_time(60.0)
    core.end(first, started_at=core.wall - 5.0, ended_at=core.wall + 500.0)
    core.end(second, started_at=core.wall - 5.0, ended_at=core.wall - 500.0)
    assert core.progress(first).ended_at == core.wall
    assert core.progress(second).ended_at == core.wall - 5.0


def test_nothing_starts_before_it_was_given_to_the_worker() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit())
    given_at = core.wall
    core.pass_time(60.0)
    core.end(seq, started_at=0.0, ended_at=1.0)
    assert (core.progress(seq).started_at, core.progress(seq).ended_at) == (given_at, given_at)


def _terms() -> Terms:
    return only(drafts_of(1, 0.0)).terms

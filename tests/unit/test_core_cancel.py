"""Cancels and retries by people, and chosen ids: what is asked for twice, late, or at the wrong moment."""

from __future__ import annotations

from typing import Any

import pytest

from rota.core.commands import CancelTasks, ReplyTo, SubmitTasks
from rota.core.effects import Accepted, IdsTaken, Reply, Settled
from rota.core.model import Cause, TaskSeq, TaskState
from rota.core.protocol import Ended, Stop
from rota.core.state import REMEMBER_S
from tests.support.core import Core, assignments, drafts_of, key, messages, only, saved, stopped

# Cancels


def test_waiting_task_is_cancelled_at_once() -> None:
    core = Core()
    seq = only(core.submit())
    effects = core.cancel(seq)
    assert core.answer(effects) == Settled([seq])
    assert (core.progress(seq).state, core.progress(seq).cause) == (TaskState.CANCELLED, Cause.CANCELLED)
    assert assignments(core.hello()) == []


@pytest.mark.parametrize("fields", [{"delay": 100}, {"retries": 1, "backoff": 100}])
def test_held_task_is_cancelled_at_once(fields: dict[str, Any]) -> None:
    core = Core()
    core.hello()
    seq = only(core.submit(**fields))
    if "retries" in fields:
        core.end(seq, "exit")
    core.cancel(seq)
    assert core.states([seq]) == ["cancelled"]
    assert sum(core.state.held.values()) == 0
    assert assignments(core.pass_time(200.0)) == []


@pytest.mark.parametrize("has_started", [True, False])
def test_task_at_a_worker_is_cancelled_when_nothing_of_it_is_left(*, has_started: bool) -> None:
    core = Core()
    core.hello()
    seq = only(core.submit(retries=3))
    if has_started:
        core.start(seq)
    stop = only(messages(core.cancel(seq), Stop))
    assert (stop.attempts, stop.cause, stop.grace_s) == ([(seq, 1)], Cause.CANCELLED, core.config.kill_grace_s)
    assert core.progress(seq).wish is Cause.CANCELLED
    assert core.states([seq]) == ["running" if has_started else "assigned"]
    core.end(seq, Cause.SIGNAL, signal=15)
    progress = core.progress(seq)
    assert (progress.state, progress.cause, progress.signal) == (TaskState.CANCELLED, Cause.CANCELLED, 15)


def test_success_after_the_cancel_is_still_cancelled() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit())
    core.cancel(seq)
    core.end(seq, None, exit_code=0)
    assert (core.progress(seq).state, core.progress(seq).exit_code) == (TaskState.CANCELLED, 0)


def test_cancelled_task_of_a_lost_worker_is_cancelled_and_not_run_again() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit(retries=3))
    core.cancel(seq)
    core.close()
    assert assignments(core.hello(instance="i2")) == []
    assert core.states([seq]) == ["cancelled"]


def test_cancel_is_said_once_and_again_when_the_worker_is_back() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit())
    assert stopped(core.cancel(seq)) == [(seq, 1)]
    assert stopped(core.cancel(seq)) == []
    held = core.held(seq)
    assert stopped(core.hello(holds=[held])) == [(seq, 1)]


def test_cancel_while_the_worker_is_away_is_said_when_it_is_back() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit())
    held = core.held(seq)
    core.close()
    assert stopped(core.cancel(seq)) == []
    assert stopped(core.restarted().hello(holds=[held])) == [(seq, 1)]


def test_cancel_of_what_has_ended_settles_nothing() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit())
    core.end(seq)
    effects = core.cancel(seq, TaskSeq(999))
    assert core.answer(effects) == Settled([])
    assert saved(effects).is_empty()


def test_cancel_that_names_a_task_twice_ends_it_once() -> None:
    core = Core()
    seq = only(core.submit())
    assert core.answer(core.cancel(seq, seq)) == Settled([seq])


def test_cancel_in_the_turn_of_the_submit_is_one_write() -> None:
    core = Core()
    core.hello()
    effects = core.do(SubmitTasks(drafts_of(1, core.wall), ReplyTo(1)), CancelTasks([TaskSeq(1)], ReplyTo(2)))
    [(seq, progress)] = saved(effects).progress
    assert progress.state is TaskState.CANCELLED
    assert assignments(effects) == []
    accepted = only(effect.answer for effect in effects if isinstance(effect, Reply) and effect.to == 1)
    assert isinstance(accepted, Accepted)
    assert accepted.tasks[0].progress.state is TaskState.CANCELLED
    assert seq == 1


# Retries


def failed(core: Core, **fields: Any) -> TaskSeq:
    """A task that failed at its first attempt."""
    seq = only(core.submit(**fields))
    core.end(seq, "exit", exit_code=9)
    assert core.states([seq]) == ["failed"]
    return seq


def test_retry_brings_a_failed_task_back_with_its_next_attempt_and_fresh_budgets() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit(retries=1, backoff=0))
    core.end(seq, "exit")
    core.end(seq, "exit", exit_code=9)
    effects = core.retry(seq)
    assert core.answer(effects) == Settled([seq])
    assert [key(given) for given in assignments(effects)] == [(seq, 3)]
    assert (core.progress(seq).retries_used, core.progress(seq).cause, core.progress(seq).exit_code) == (0, None, None)
    assert [(row.number, row.exit_code) for row in core.record.attempts[seq]] == [(1, None), (2, 9)]
    core.end(seq, "exit")
    assert core.progress(seq).attempt == 4


def test_retry_of_a_task_that_never_ran_makes_no_row() -> None:
    core = Core()
    seq = only(core.submit())
    core.cancel(seq)
    core.retry(seq)
    assert core.states([seq]) == ["pending"]
    assert seq not in core.record.attempts
    assert [key(given) for given in assignments(core.hello())] == [(seq, 1)]


def test_retry_of_a_task_cancelled_between_attempts_makes_no_second_row() -> None:
    core = Core()
    core.hello()
    seq = only(core.submit(retries=1, backoff=100))
    core.end(seq, "exit")
    core.cancel(seq)
    assert [key(given) for given in assignments(core.retry(seq))] == [(seq, 2)]
    assert [row.number for row in core.record.attempts[seq]] == [1]


def test_retry_overrules_deadline_and_start_time() -> None:
    core = Core()
    seq = only(core.submit(deadline=10, delay=5))
    core.pass_time(11.0)
    assert core.states([seq]) == ["failed"]
    core.retry(seq)
    assert core.record.facts[seq].deadline_at is None
    core.pass_time(100.0)
    assert core.states([seq]) == ["pending"]
    again = core.restarted(after_s=100.0)
    again.hello()
    assert again.states([seq]) == ["assigned"]


def test_retry_twice_at_once_settles_once() -> None:
    core = Core()
    core.hello()
    seq = failed(core)
    effects = core.do(core.retry_command(seq), core.retry_command(seq))
    answers = [effect.answer for effect in effects if isinstance(effect, Reply)]
    assert answers == [Settled([seq]), Settled([])]
    assert len(saved(effects).revived) == 1


def test_retry_with_an_old_record_never_gives_an_attempt_number_twice() -> None:
    core = Core()
    core.hello()
    seq = failed(core)
    late = core.retry_command(seq)
    core.retry(seq)
    core.end(seq, "exit")
    assert core.answer(core.do(late)) == Settled([])
    assert core.answer(core.retry(seq)) == Settled([seq])
    assert core.progress(seq).attempt == 3


def test_retry_and_cancel_in_one_turn_can_not_be_retried_in_that_turn() -> None:
    core = Core()
    seq = only(core.submit())
    core.cancel(seq)
    retry = core.retry_command(seq)
    effects = core.do(retry, CancelTasks([seq], ReplyTo(77)), retry)
    assert [effect.answer for effect in effects if isinstance(effect, Reply)] == [
        Settled([seq]),
        Settled([seq]),
        Settled([]),
    ]
    assert core.states([seq]) == ["cancelled"]


def test_completed_and_living_tasks_can_not_be_retried() -> None:
    core = Core()
    core.hello(cpu=1000)
    done, running, waiting = core.submit(3)
    core.end(done)
    for seq in (done, running, waiting):
        assert core.answer(core.retry(seq)) == Settled([])


def test_retry_counts_as_waiting_in_its_old_place() -> None:
    core = Core()
    core.hello(cpu=1000)
    first = failed(core)
    running, behind = core.submit(2)
    core.retry(first)
    assert [given.task for given in assignments(core.end(running))] == [first]
    assert core.states([behind]) == ["pending"]


# Chosen ids


def test_taken_id_accepts_nothing_of_the_request() -> None:
    core = Core()
    core.submit(id="mine")
    drafts = drafts_of(1, core.wall) + drafts_of(1, core.wall, id="mine") + drafts_of(1, core.wall, id="other")
    effects = core.submit_drafts(drafts)
    assert core.answer(effects) == IdsTaken([1])
    assert saved(effects).is_empty()
    assert core.submit(id="other") == [TaskSeq(2)]


def test_id_that_is_there_twice_in_one_request_accepts_nothing() -> None:
    core = Core()
    effects = core.submit_drafts(drafts_of(2, core.wall, id="mine"))
    assert core.answer(effects) == IdsTaken([1])
    assert saved(effects).is_empty()


def test_id_of_a_task_that_has_just_ended_is_still_taken() -> None:
    core = Core()
    core.hello()
    core.end(only(core.submit(id="mine")))
    core.now += REMEMBER_S - 1.0
    assert core.answer(core.submit_drafts(drafts_of(1, core.wall, id="mine"))) == IdsTaken([0])
    core.now += 2.0
    core.do()
    assert "mine" not in core.state.chosen_ids


def test_id_that_a_new_task_has_keeps_the_old_one_from_coming_back() -> None:
    core = Core()
    old = only(core.submit(id="mine"))
    core.cancel(old)
    late = core.retry_command(old)
    core.now += REMEMBER_S + 1.0
    core.do()
    core.record.remove(old)  # retention was quick
    core.submit(id="mine")
    assert core.answer(core.do(late)) == Settled([])


def test_accepted_tasks_are_answered_in_their_order_as_they_are_saved() -> None:
    core = Core()
    core.hello(cpu=1000)
    effects = core.submit_drafts(drafts_of(1, core.wall, name="a") + drafts_of(1, core.wall, name="b", delay=5))
    records = core.accepted(effects)
    assert [record.facts.name for record in records] == ["a", "b"]
    assert [record.progress.state.word for record in records] == ["assigned", "pending"]
    assert [record.facts.id for record in records] == ["t1", "t2"]
    assert [record.facts.created_at for record in records] == [core.wall] * 2


def test_end_of_an_unknown_task_is_no_trouble() -> None:
    core = Core()
    core.hello()
    core.report(ended=[Ended(TaskSeq(12345), 1, None)])
    assert core.state.counts.reports_stale == 1

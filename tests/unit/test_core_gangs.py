"""Gangs: placed all or none, stopped together, run again as a whole or not at all, through any restart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from rota.core.commands import ReplyTo, ReportArrived, RetryTask, SubmitTasks
from rota.core.effects import Effect, GangRefused
from rota.core.explain import explain_wait, reasons
from rota.core.model import Cause, Reason, TaskSeq
from rota.core.protocol import Assign, Ended, Report, Stop
from tests.support.core import QUIET, Core, assignments, drafts_of, messages, only, stopped


def gang(size: int, name: str = "g") -> dict[str, Any]:
    return {"id": name, "size": size}


def submit(core: Core, size: int, name: str = "g", **fields: Any) -> list[TaskSeq]:
    return core.submit(size, gang=gang(size, name), **fields)


def given(effects: Sequence[Effect]) -> list[TaskSeq]:
    return sorted(one.task for one in assignments(effects))


def why(core: Core, seq: TaskSeq) -> tuple[Reason, str]:
    return explain_wait(core.state, core.task(seq))


# Placing


def test_gang_waits_until_all_members_are_there() -> None:
    core = Core()
    core.hello()
    first = core.submit(3, gang=gang(4))
    assert core.states(first) == ["pending"] * 3
    assert why(core, first[0]) == (Reason.GANG, "3 of 4 members are there")
    assert reasons(core.state) == {Reason.GANG: 3}
    last = only(core.submit(gang=gang(4)))
    assert core.states([*first, last]) == ["assigned"] * 4


def test_gang_is_placed_whole_or_not_at_all() -> None:
    core = Core()
    core.hello(cpu=2000)
    seqs = submit(core, 4)
    assert core.states(seqs) == ["pending"] * 4
    core.hello("w2", cpu=1000)
    assert core.states(seqs) == ["pending"] * 4
    assert why(core, seqs[0])[0] is Reason.IMPOSSIBLE
    assert given(core.hello("w3", cpu=1000)) == seqs


def test_gang_that_waits_for_room_says_how_many_fit() -> None:
    core = Core()
    core.hello(cpu=4000)
    small = core.submit(2)
    seqs = submit(core, 4)
    assert why(core, seqs[3]) == (Reason.GANG, "waits for room for all 4: 2 fit now")
    assert given(core.end(small[0])) == []
    assert why(core, seqs[3]) == (Reason.GANG, "waits for room for all 4: 3 fit now")
    assert given(core.end(small[1])) == seqs


def test_members_may_have_different_shapes() -> None:
    core = Core()
    core.hello("w1", cpu=1000)
    core.hello("w2", cpu=2000, gpus=[4000])
    effects = core.submit_drafts_of(
        [
            {"gang": gang(3)},
            {"gang": gang(3), "resources": {"cpu": 500, "gpu": 1}},
            {"gang": gang(3), "resources": {"cpu": 1500}},
        ]
    )
    assert given(effects) == [1, 2, 3]
    assert core.workers_of([TaskSeq(1), TaskSeq(2), TaskSeq(3)]) == ["w1", "w2", "w2"]


def test_two_gangs_do_not_wait_for_each_other() -> None:
    core = Core()
    core.hello(cpu=3000)
    blocker = only(core.submit())
    a, b = submit(core, 3, "a"), submit(core, 3, "b")
    assert given(core.end(blocker)) == a
    for seq in a[:2]:
        assert given(core.end(seq)) == []
    assert given(core.end(a[2])) == b


def test_members_stand_in_no_lines() -> None:
    core = Core()
    core.hello(cpu=1000)
    for _ in range(3):
        core.end(only(submit(core, 1)), run_s=0.001)
    first, second = only(submit(core, 1, "a")), only(submit(core, 1, "b"))
    assert core.states([first, second]) == ["assigned", "pending"]


def test_higher_priority_goes_before_a_gang_and_lower_after_it() -> None:
    core = Core()
    low = core.submit(2, priority="low")
    members = submit(core, 2)
    high = core.submit(2, priority="high")
    core.hello(cpu=4000)
    assert core.states([*low, *members, *high]) == ["pending"] * 2 + ["assigned"] * 4


def test_gang_is_served_in_its_turn_among_equals() -> None:
    core = Core()
    before = core.submit(1)
    members = submit(core, 2)
    after = core.submit(5)
    core.hello(cpu=4000)
    assert core.states([*before, *members, *after]) == ["assigned"] * 4 + ["pending"] * 4


def test_member_that_waits_for_its_start_time_holds_all_up() -> None:
    core = Core()
    core.hello()
    first = only(core.submit(gang=gang(2)))
    core.submit(gang=gang(2), delay=10)
    assert why(core, first)[1].startswith("member t2 (rank 1) its start time")
    assert given(core.pass_time(10.1)) == [1, 2]


def test_each_worker_learns_the_ranks_of_its_members_and_where_the_others_are() -> None:
    core = Core()
    core.hello("w1", cpu=1000, host="alpha")
    core.hello("w2", cpu=1000, addr="10.0.0.2")
    effects = core.submit_drafts_of([{"gang": gang(2)}, {"gang": gang(2)}])
    told = [only(message.gangs) for message in messages(effects, Assign)]
    seats = [seat for one in told for seat in one.seats]
    assert sorted((seat.task, seat.attempt, seat.rank) for seat in seats) == [(1, 1, 0), (2, 1, 1)]
    hosts = ["alpha" if worker == "w1" else "10.0.0.2" for worker in core.workers_of([TaskSeq(1), TaskSeq(2)])]
    assert [list(one.hosts) for one in told] == [hosts] * 2


# Refusals


@pytest.mark.parametrize(
    "sizes, message",
    [
        ([2, 2, 2], "gang 'g' would have more than its 2 members: give others another id"),
        ([2, 3], "gang 'g' has size 2, not 3: its members must all say the same"),
    ],
)
def test_wrong_sizes_and_members_too_many_are_refused(sizes: list[int], message: str) -> None:
    core = Core()
    effects = core.submit_drafts_of([{"gang": gang(size)} for size in sizes])
    assert core.answer(effects) == GangRefused(len(sizes) - 1, message)
    assert not core.state.tasks
    assert not core.record.facts


def test_member_too_many_is_refused_until_the_gang_has_ended() -> None:
    core = Core()
    core.hello()
    seqs = submit(core, 2)
    refused = core.answer(core.submit_drafts_of([{"gang": gang(2)}]))
    assert refused == GangRefused(0, "gang 'g' has all of its 2 members: give others another id")
    for seq in seqs:
        core.end(seq)
    assert core.states(submit(core, 2)) == ["assigned"] * 2


def test_gang_that_could_never_fit_fails_after_a_while_with_a_sentence() -> None:
    core = Core(config=replace(QUIET, impossible_after_s=60.0))
    core.hello(cpu=2000)
    seqs = submit(core, 3)
    sentence = "needs room for all 3 at once; the workers there are could hold 2 if they were empty"
    assert why(core, seqs[0]) == (Reason.IMPOSSIBLE, sentence)
    core.pass_time(59.0)
    assert core.states(seqs) == ["pending"] * 3
    core.pass_time(2.0)
    assert core.states(seqs) == ["failed"] * 3
    assert core.progress(seqs[0]).cause is Cause.IMPOSSIBLE
    assert core.progress(seqs[0]).message == sentence
    assert core.progress(seqs[2]).message == "t1 (rank 0) of its gang failed (impossible)"


def test_gang_that_may_fit_after_all_does_not_fail() -> None:
    core = Core(config=replace(QUIET, impossible_after_s=60.0))
    core.hello(cpu=2000)
    seqs = submit(core, 3)
    core.pass_time(50.0)
    assert given(core.hello("w2", cpu=1000)) == seqs


def test_gang_whose_tags_nobody_has_says_which_member() -> None:
    core = Core()
    core.hello()
    core.submit_drafts_of([{"gang": gang(2)}, {"gang": gang(2), "tags": ["gpu"]}])
    assert why(core, TaskSeq(1)) == (Reason.TAGS, "member t2 (rank 1) of its gang: no worker has the tag gpu")


# Ends


def run_gang(core: Core, size: int = 3, **fields: Any) -> list[TaskSeq]:
    core.hello("w1", cpu=2000)
    core.hello("w2", cpu=2000)
    seqs = submit(core, size, **fields)
    core.start(*seqs)
    return seqs


def test_success_of_one_leaves_the_others_alone() -> None:
    core = Core()
    a, b, c = run_gang(core)
    assert stopped(core.end(b)) == []
    assert core.states([a, b, c]) == ["running", "completed", "running"]


def test_failure_stops_the_others_and_all_run_again() -> None:
    core = Core()
    a, b, c = run_gang(core, retries=1, backoff=0)
    effects = core.end(b, "exit")
    assert sorted(stopped(effects)) == [(a, 1), (c, 1)]
    assert {message.cause for message in messages(effects, Stop)} == {Cause.GANG}
    assert why(core, b) == (Reason.GANG, "its gang runs again when 2 of 3 members have stopped")
    assert given(core.end(a, "gang")) == []
    assert given(core.end(c, "gang")) == [a, b, c]
    assert [core.progress(seq).retries_used for seq in (a, b, c)] == [0, 1, 0]
    assert [core.progress(seq).attempt for seq in (a, b, c)] == [2, 2, 2]


@pytest.mark.parametrize("cause", [None, "exit", "signal"])
def test_what_the_others_say_while_they_are_stopped_counts_for_nothing(cause: str | None) -> None:
    core = Core()
    a, b, c = run_gang(core, retries=1, backoff=0)
    core.end(b, "exit")
    core.end(a, cause)
    core.end(c, "gang")
    assert [core.progress(seq).retries_used for seq in (a, b, c)] == [0, 1, 0]
    assert core.states([a, b, c]) == ["assigned"] * 3
    assert core.record.attempts[a][0].cause is Cause.GANG


def test_failure_out_of_budget_ends_all_and_names_the_one() -> None:
    core = Core()
    a, b, c = run_gang(core)
    assert sorted(stopped(core.end(b, "exit"))) == [(a, 1), (c, 1)]
    core.end(a, "gang")
    core.end(c, "gang")
    assert core.states([a, b, c]) == ["failed"] * 3
    assert [core.progress(seq).cause for seq in (a, b, c)] == [Cause.GANG, Cause.EXIT, Cause.GANG]
    assert core.progress(a).message == "t2 (rank 1) of its gang failed (exit)"


def test_cancel_of_one_cancels_all() -> None:
    core = Core()
    a, b, c = run_gang(core)
    assert sorted(stopped(core.cancel(b))) == [(a, 1), (b, 1), (c, 1)]
    for seq in (a, b, c):
        core.end(seq, "cancelled")
    assert core.states([a, b, c]) == ["cancelled"] * 3
    assert core.progress(c).message == "t2 (rank 1) of its gang was cancelled"


def test_cancel_of_one_that_waits_cancels_all_that_wait() -> None:
    core = Core()
    seqs = core.submit(2, gang=gang(3))
    core.cancel(*seqs)
    assert core.states(seqs) == ["cancelled"] * 2
    assert not core.state.gangs.by_name


def test_lost_worker_stops_all_and_only_one_is_charged() -> None:
    core = Core()
    core.hello("w1", cpu=2000)
    core.hello("w2", cpu=1000)
    seqs = submit(core, 3)
    core.start(*seqs)
    lost = [seq for seq in seqs if core.worker_of(seq) == "w1"]
    [other] = [seq for seq in seqs if core.worker_of(seq) == "w2"]
    core.close("w1")
    effects = core.hello("w1", instance="i2", cpu=2000)
    assert stopped(effects) == [(other, 1)]
    assert given(core.end(other, "gang")) == seqs
    assert sum(core.progress(seq).losses_used for seq in lost) == 1
    assert core.progress(other).losses_used == 0


def test_returned_member_stops_the_others_at_no_charge() -> None:
    core = Core()
    a, b = run_gang(core, 2)
    core.close(core.worker_of(b))
    mine = core.worker_of(b)
    holds = [core.held(seq) for seq in (a, b) if seq != b and core.worker_of(seq) == mine]
    effects = core.hello(mine, holds=holds, cpu=2000)
    assert (a, 1) in stopped(effects)
    core.end(a, "gang")
    assert core.states([a, b]) == ["assigned"] * 2
    assert [core.progress(seq).losses_used for seq in (a, b)] == [0, 0]


def test_failure_after_a_success_ends_what_is_left() -> None:
    core = Core()
    a, b, c = run_gang(core, retries=5, backoff=0)
    core.end(a)
    assert stopped(core.end(b, "exit", message="out of luck")) == [(c, 1)]
    core.end(c, "gang")
    assert core.states([a, b, c]) == ["completed", "failed", "failed"]
    assert core.progress(b).message == (
        "out of luck; other members of its gang have completed, and a gang runs again as a whole or not at all"
    )
    assert core.progress(c).message == "t2 of its gang failed (exit)"


def test_deadline_of_one_ends_all() -> None:
    core = Core()
    core.hello()
    core.submit_drafts_of([{"gang": gang(2)}, {"gang": gang(2), "deadline": 10}])
    assert sorted(stopped(core.pass_time(11.0))) == [(1, 1), (2, 1)]
    core.end(TaskSeq(1), "gang")
    core.end(TaskSeq(2), "expired")
    assert [core.progress(TaskSeq(seq)).cause for seq in (1, 2)] == [Cause.GANG, Cause.EXPIRED]


# Retries of persons


def replace_mates(command: RetryTask) -> RetryTask:
    return RetryTask(command.record, command.reply_to, [])


def test_retry_of_all_brings_the_gang_back() -> None:
    core = Core()
    seqs = run_gang(core)
    core.end(seqs[1], "exit")
    core.end(seqs[0], "gang")
    core.end(seqs[2], "gang")
    assert given(core.retry(seqs[2])) == seqs


def test_retry_of_one_alone_waits_for_the_others() -> None:
    core = Core()
    seqs = run_gang(core)
    core.end(seqs[1], "exit")
    core.end(seqs[0], "gang")
    core.end(seqs[2], "gang")
    core.do(replace_mates(core.retry_command(seqs[0])))
    assert why(core, seqs[0]) == (Reason.GANG, "1 of 3 members are there")


def test_retry_while_the_others_are_being_stopped_is_refused() -> None:
    core = Core()
    seqs = run_gang(core)
    core.end(seqs[1], "exit")
    core.retry(seqs[1])
    assert core.states([seqs[1]]) == ["failed"]


# Restarts


def test_restart_finds_an_incomplete_gang() -> None:
    core = Core()
    first = core.submit(1, gang=gang(2))
    core = core.restarted()
    core.hello()
    assert given(core.submit_drafts_of([{"gang": gang(2)}])) == [*first, 2]


def test_restart_finds_a_running_gang_and_its_ranks() -> None:
    core = Core()
    a, b, c = run_gang(core, retries=1, backoff=0)
    held = {
        worker: [core.held(s, started=True) for s in (a, b, c) if core.worker_of(s) == worker]
        for worker in ("w1", "w2")
    }
    core = core.restarted()
    for worker, holds in held.items():
        core.hello(worker, holds=holds, cpu=2000)
    core.end(b, "exit")
    core.end(a, "gang")
    effects = core.end(c, "gang")
    seats = [seat for message in messages(effects, Assign) for told in message.gangs for seat in told.seats]
    assert sorted((seat.task, seat.rank) for seat in seats) == [(a, 0), (b, 1), (c, 2)]


def test_restart_goes_on_stopping_a_gang_that_runs_again() -> None:
    core = Core()
    a, b, c = run_gang(core, retries=1, backoff=0)
    core.end(b, "exit")
    held = {
        worker: [core.held(s, started=True) for s in (a, c) if core.worker_of(s) == worker] for worker in ("w1", "w2")
    }
    core = core.restarted()
    again = []
    for worker, holds in held.items():
        again += stopped(core.hello(worker, holds=holds, cpu=2000))
    assert sorted(again) == [(a, 1), (c, 1)]
    core.end(a)
    assert given(core.end(c, "gang")) == [a, b, c]


def test_restart_knows_that_a_member_has_completed() -> None:
    core = Core()
    a, b, c = run_gang(core, retries=1, backoff=0)
    core.end(a)
    held = {
        worker: [core.held(s, started=True) for s in (b, c) if core.worker_of(s) == worker] for worker in ("w1", "w2")
    }
    core = core.restarted()
    for worker, holds in held.items():
        core.hello(worker, holds=holds, cpu=2000)
    core.end(b, "exit")
    core.end(c, "gang")
    assert core.states([a, b, c]) == ["completed", "failed", "failed"]


def test_exclusive_gang_waits_for_what_may_still_run() -> None:
    core = Core()
    core.hello("w1", cpu=2000)
    seqs = submit(core, 2, exclusive=True)
    core.close("w1")
    core.hello("w1", instance="i2", cpu=2000)
    assert given(core.pass_time(44.0)) == []
    assert given(core.pass_time(2.0)) == seqs


def test_failed_try_leaves_policies_that_look_at_tasks_as_they_were() -> None:
    core = Core()
    core.hello("w1", cpu=2000)
    blocker = only(core.submit())
    seqs = submit(core, 2, placement="spread", labels={"job": "x"})
    assert core.states(seqs) == ["pending"] * 2
    assert given(core.end(blocker)) == seqs


# Limits and queues


def test_gang_waits_until_a_limit_has_enough_for_all() -> None:
    core = Core()
    core.state.limits.set("licence", 2)
    core.hello()
    blocker = only(core.submit(limits={"licence": 1}))
    seqs = submit(core, 2, limits={"licence": 1})
    assert why(core, seqs[0]) == (
        Reason.LIMIT,
        "a limit of the cluster has not enough left for all 2 members of its gang",
    )
    assert given(core.end(blocker)) == seqs


@pytest.mark.parametrize("before, after", [({"paused": True}, {"paused": False}), ({"max_running": 1}, {})])
def test_gang_goes_on_with_its_queue_though_its_shape_was_forgotten(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    core = Core()
    core.hello(cpu=100_000)
    core.set_queue("q", **before)
    seqs = submit(core, 2, queue="q")
    let_idle_rooms_be_forgotten(core)
    core.set_queue("q", **after)
    assert core.states(seqs) == ["assigned"] * 2


def let_idle_rooms_be_forgotten(core: Core) -> None:
    """Let shapes come and go until that happens; without checks of the state, which would look at the gang's."""
    rooms = core.state.cluster.rooms
    for number in range(1, 1000):
        known, drafts = len(rooms), drafts_of(1, core.wall, resources={"cpu": number})
        core.scheduler.apply([SubmitTasks(drafts, ReplyTo(number))], now=core.now, wall=core.wall)
        if len(rooms) <= known:
            return
        ended = [Ended(max(core.state.tasks), 1, None, run_s=10.0)]
        report = ReportArrived(core.sessions["w1"], Report(number, [], ended, []))
        core.scheduler.apply([report], now=core.now, wall=core.wall)
    pytest.fail("nothing was forgotten")


def test_restart_knows_which_gang_of_an_id_still_takes_members() -> None:
    core = Core()
    old = submit(core, 2)
    core.cancel(old[0])
    new = core.submit(2, gang=gang(3))
    core.retry(old[0])
    again = core.restarted()
    last = only(again.submit(gang=gang(3)))
    again.hello(cpu=8000)
    assert again.states([*old, *new, last]) == ["assigned"] * 5

"""Runs of plans: what comes of them is what theory, and the promises of the scheduler, say."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

import msgspec
import pytest

from rota.core.errors import BadRequest
from rota.simulator.fairness import Fairness, jain_index
from rota.simulator.plan import FaultPlan, LoadPlan, Plan, QueuePlan, WorkerPlan
from rota.simulator.report import RunReport
from rota.simulator.runs import Finished, arrivals_of, capacity_of, expected_tasks, fitting_rate, run_plan
from rota.simulator.scenarios import FAULT_KINDS

ONE_CORE = WorkerPlan(count=10, cpu=1000, memory=100_000)


def plan_of(*loads: LoadPlan, **fields: Any) -> Plan:
    return Plan(**{"workers": [ONE_CORE], "load": list(loads), **fields})


def run(plan: Plan) -> Finished:
    return run_plan(plan, arrivals_of(plan, {}))


def report(plan: Plan) -> RunReport:
    return run(plan).report


def waits_of_one_queue(plan: Plan, servers: int) -> list[float]:
    """First come, first served by so many servers, exactly: the recursion of Kiefer and Wolfowitz."""
    free_at = [0.0] * servers
    waits = []
    for arrival in arrivals_of(plan, {}):
        start = max(heappop(free_at), arrival.at)
        waits.append(start - arrival.at)
        heappush(free_at, start + arrival.work.seconds)
    return waits


@pytest.mark.parametrize("busy_part", [0.7, 0.9])
@pytest.mark.parametrize("arrivals", ["poisson", "sinusoidal"])
def test_waiting_times_are_those_of_queueing_theory(arrivals: str, busy_part: float) -> None:
    """What comes on top is the way of a task: two turns and two messages, some 20 ms."""
    load = LoadPlan(arrivals=arrivals, mix="memory", shapes=1, rate=busy_part, tasks=4_000, mean_duration=10.0)
    plan = plan_of(load, workers=[WorkerPlan(count=10, cpu=500, memory=100_000)])
    seen, theory = run(plan), waits_of_one_queue(plan, servers=10)
    columns = seen.columns
    waits = [started - created for started, created in zip(columns.started, columns.created, strict=True)]
    assert seen.report.completed == 4_000
    assert sum(waits) / 4_000 == pytest.approx(sum(theory) / 4_000, rel=0.04, abs=0.03)
    assert max(waits) == pytest.approx(max(theory), rel=0.05, abs=0.1)


def test_every_policy_gets_the_same_tasks() -> None:
    load = LoadPlan(arrivals="bursty", rate=2.0, tasks=300, mean_duration=2.0)
    runs = [
        run(plan_of(load, placement=name, workers=[WorkerPlan(count=5)]))
        for name in ("binpack", "spread", "consistent-hash")
    ]
    created = [list(each.columns.created) for each in runs]
    work = [sum(each.columns.ran) for each in runs]
    assert created[0] == created[1] == created[2]
    assert work == pytest.approx([work[0]] * 3)


def test_binpack_keeps_workers_free_that_spread_uses() -> None:
    load = LoadPlan(arrivals="poisson", mix="io", rate=10.0, tasks=2_000, mean_duration=2.0)
    workers = [WorkerPlan(count=20)]
    used = {
        name: report(plan_of(load, placement=name, workers=workers)).workers_in_use for name in ("binpack", "spread")
    }
    assert used["binpack"] < 0.7 * used["spread"]


def test_fair_queues_get_what_their_weights_say() -> None:
    loads = [
        LoadPlan(mix="cpu", shapes=1, rate=32.0, tasks=2_500, mean_duration=2.0, durations="fixed", queue=name)
        for name in ("large", "small")
    ]
    queues = {"large": QueuePlan(weight=3.0), "small": QueuePlan(weight=1.0)}
    plan = plan_of(*loads, queues=queues, ordering="fair", until=70.0, workers=[WorkerPlan(count=10)])
    fair, unfair = report(plan), report(msgspec.structs.replace(plan, ordering="fcfs"))
    got = {queue.name: queue.core_s for queue in fair.queues}
    assert got["large"] / got["small"] == pytest.approx(3.0, rel=0.1)
    assert fair.fairness is not None
    assert unfair.fairness is not None
    assert fair.fairness > 0.99 > unfair.fairness


def test_higher_priority_waits_less_and_preempts_where_it_may() -> None:
    loads = [
        LoadPlan(mix="cpu", shapes=1, rate=1.5, tasks=400, mean_duration=10.0, priority="low", queue="low"),
        LoadPlan(mix="cpu", shapes=1, rate=0.05, tasks=12, mean_duration=5.0, priority="high", queue="urgent"),
    ]
    plan = plan_of(*loads, queues={"urgent": QueuePlan(preempts_by=10)}, until=600.0)
    seen = report(plan)
    waited = {queue.name: queue.waiting_mean_s for queue in seen.queues}
    assert waited["urgent"] < 12.0 < waited["low"]
    assert seen.preemptions > 0
    assert seen.lost_work_s["preempted"] > 0.0


FAULTY = LoadPlan(mix="cpu", shapes=1, rate=1.5, tasks=300, mean_duration=5.0)


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_whatever_fails_every_task_ends(kind: str) -> None:
    faults = [FaultPlan(kind=kind, every=40.0, lasts=15.0), FaultPlan(kind=kind, at=30.0, lasts=20.0)]
    seen = report(plan_of(FAULTY, faults=faults, workers=[WorkerPlan(count=10)]))
    assert (seen.tasks, seen.completed, seen.unfinished) == (300, 300, 0)
    if kind in ("crash", "power-loss"):
        assert seen.lost_work_s["worker-lost"] > 0.0
    if kind in ("coordinator-crash", "store-full", "slow", "delayed-messages", "repeated-messages"):
        assert not seen.lost_work_s


def troubled(rate: float = 1.5, **fault: Any) -> tuple[RunReport, list[str]]:
    """A run in which messages of all workers are in trouble all the time, and what was noted of it."""
    lines: list[str] = []
    plan = plan_of(
        msgspec.structs.replace(FAULTY, rate=rate),
        faults=[FaultPlan(at=0.0, lasts=10_000.0, worker="*", **fault)],
        heartbeat=3.0,
    )
    return run_plan(plan, arrivals_of(plan, {}), on_line=lines.append).report, lines


def test_messages_that_come_late_are_waited_for() -> None:
    on_time, late, sometimes = (
        troubled(0.5, kind="delayed-messages", delay=delay, part=part)[0]
        for delay, part in ((0.0, 1.0), (2.0, 1.0), (2.0, 0.1))
    )
    assert late.completed == sometimes.completed == 300
    # A task that waits for nothing else waits for its assignment: one to three seconds.
    assert late.waiting_s.p50 - on_time.waiting_s.p50 == pytest.approx(2.0, abs=0.3)
    assert on_time.waiting_s.mean < sometimes.waiting_s.mean < late.waiting_s.mean


def test_messages_that_come_twice_change_nothing() -> None:
    seen, _ = troubled(kind="repeated-messages", part=1.0)
    assert (seen.completed, seen.decisions) == (300, 300)
    assert seen.lost_work_s == {}


def test_lost_message_breaks_its_channel_and_is_made_up_for_on_the_next() -> None:
    seen, lines = troubled(kind="lost-messages", part=0.05)
    assert (seen.completed, seen.failed) == (300, 0)
    assert sum("lost its link" in line or "hangs up" in line for line in lines) > 20
    whole, lines = troubled(kind="lost-messages", part=0.0)
    assert whole.completed == 300
    assert not any("lost its link" in line for line in lines)


def test_trouble_is_over_when_it_says_so_and_hits_whom_it_names() -> None:
    lines: list[str] = []
    faults = [FaultPlan(kind="lost-messages", at=20.0, lasts=30.0, worker="a*", part=0.5)]
    workers = [WorkerPlan(name="a", count=3), WorkerPlan(name="b", count=3)]
    plan = plan_of(FAULTY, faults=faults, workers=workers)
    run_plan(plan, arrivals_of(plan, {}), on_line=lines.append)
    broken = [line.split() for line in lines if "lost its link" in line or "hangs up" in line]
    assert broken
    assert {name for _, name, *_ in broken} <= {"a1", "a2", "a3"}
    # What broke in silence is noticed after three heartbeats without an answer.
    assert all(20.0 < float(at) < 65.0 for at, *_ in broken)


@pytest.mark.parametrize("commit", [1, 2, 3, 5, 8, 13, 40])
def test_coordinator_may_crash_in_any_commit(commit: int) -> None:
    lines: list[str] = []
    faults = [FaultPlan(kind="coordinator-crash", commit=commit, lasts=4.0)]
    plan = plan_of(FAULTY, faults=faults, seed=commit)
    seen = run_plan(plan, arrivals_of(plan, {}), on_line=lines.append).report
    assert (seen.completed, seen.failed, seen.lost_work_s) == (300, 0, {})
    loads = [line.split() for line in lines if "loaded" in line]
    killed = next(float(line.split()[0]) for line in lines if "is killed" in line)
    assert [int(line[-1]) in (commit - 1, commit) for line in loads] == [commit == 1, True]
    assert float(loads[1][0]) == pytest.approx(killed + 4.0, abs=0.1)


def test_worker_that_is_slowed_down_twice_gets_well_again() -> None:
    faults = [FaultPlan(kind="slow", at=at, lasts=10.0, worker="w", speed=0.5) for at in (5.0, 10.0)]
    load = LoadPlan(mix="cpu", shapes=1, rate=0.1, tasks=10, mean_duration=1.0, durations="fixed")
    columns = run(plan_of(load, workers=[WorkerPlan()], faults=faults)).columns
    assert columns.ran[-1] == pytest.approx(1.0)


def test_faults_are_the_same_for_the_same_seed() -> None:
    kinds = ("lost-messages", "delayed-messages", "repeated-messages", "coordinator-crash")
    faults = [FaultPlan(kind=kind, every=20.0, lasts=10.0) for kind in kinds]
    plan = plan_of(FAULTY, faults=faults)
    assert report(plan) == report(plan)
    assert report(plan) != report(msgspec.structs.replace(plan, seed=1))


def test_slow_worker_takes_longer() -> None:
    load = LoadPlan(mix="cpu", shapes=1, rate=0.1, tasks=50, mean_duration=5.0, durations="fixed")
    quick, slow = (run(plan_of(load, workers=[WorkerPlan(speed=speed)])) for speed in (1.0, 0.5))
    assert quick.columns.ran[0] == pytest.approx(5.0)
    assert slow.columns.ran[0] == pytest.approx(10.0)


def test_time_out_is_as_long_on_a_slow_worker() -> None:
    load = LoadPlan(mix="cpu", shapes=1, rate=0.1, tasks=2, mean_duration=5.0, durations="fixed", timeout=8.0)
    quick, slow = (run(plan_of(load, workers=[WorkerPlan(speed=speed)])) for speed in (1.0, 0.5))
    assert quick.columns.ran[0] == pytest.approx(5.0)
    assert slow.columns.ran[0] == pytest.approx(8.0)
    assert [(plight.why, plight.tasks) for plight in slow.report.failures] == [("timeout", 2)]


def test_worker_that_comes_later_gets_nothing_before() -> None:
    load = LoadPlan(mix="cpu", shapes=1, rate=1.0, tasks=100, mean_duration=4.0, durations="fixed")
    plan = plan_of(load, workers=[WorkerPlan(name="a", count=2), WorkerPlan(name="late", starts_at=50.0)])
    columns = run(plan).columns
    began = [at for at, worker in zip(columns.began, columns.at_worker, strict=True) if worker == 2]
    assert began
    assert min(began) >= 50.0


def test_task_that_nobody_can_run_is_told_as_not_ended_or_failed() -> None:
    tagged = LoadPlan(mix="cpu", shapes=1, rate=1.0, tasks=3, mean_duration=1.0, tags=["nowhere"])
    large = LoadPlan(mix="cpu", shapes=4, rate=1.0, tasks=40, mean_duration=1.0)
    seen = report(plan_of(tagged, large))
    assert seen.unfinished == 3
    assert seen.failed > 0  # those of more cores than any worker has, after ten minutes
    assert seen.completed + seen.failed + seen.unfinished == 43
    assert [(each.why, each.tasks, each.example) for each in seen.waits] == [
        ("tags", 3, "no worker has the tag nowhere")
    ]
    assert [(each.why, each.tasks) for each in seen.failures] == [("impossible", seen.failed)]
    assert "; the largest worker, " in seen.failures[0].example


def test_run_stops_when_it_is_told_to() -> None:
    load = LoadPlan(mix="cpu", shapes=1, rate=1.0, tasks=1_000, mean_duration=50.0)
    finished = run(plan_of(load, until=100.0))
    assert finished.report.unfinished > 0
    assert max(finished.columns.over) == pytest.approx(100.0)
    assert sum(plight.tasks for plight in finished.report.waits) == pytest.approx(
        finished.report.unfinished - 10, abs=2
    )


def test_no_more_workers_are_in_use_than_there_are_however_soon_it_stops() -> None:
    load = LoadPlan(mix="cpu", shapes=1, rate=20.0, tasks=1_000, mean_duration=50.0)
    seen = report(plan_of(load, until=3.0))
    assert 0.5 < seen.utilisation <= 1.0
    assert 5.0 < seen.workers_in_use <= 10.0


def test_default_rate_keeps_most_of_the_cores_busy() -> None:
    load = LoadPlan(arrivals="steady", mix="mixed", tasks=3_000, rate=1.0)
    workers = [WorkerPlan(count=20)]
    rate = fitting_rate(load, capacity_millicores=capacity_of(Plan(workers=workers)), part=0.9)
    plan = plan_of(msgspec.structs.replace(load, rate=rate), workers=workers)
    assert expected_tasks(plan, {}) == 3_000
    columns = run(plan).columns
    span_s = columns.created[-1] - columns.created[0]
    busy = sum(cpu * (over - began) for cpu, began, over in zip(columns.cpu, columns.began, columns.over, strict=True))
    assert busy / (20 * 4000 * span_s) == pytest.approx(0.9, abs=0.06)


def test_names_that_there_are_not_are_refused() -> None:
    load = LoadPlan(rate=1.0, tasks=1)
    with pytest.raises(BadRequest, match="did you mean `binpack`"):
        report(plan_of(load, placement="binpak"))
    with pytest.raises(BadRequest, match=r"faults\[0\].worker: there is no worker 'w99'"):
        report(plan_of(load, faults=[FaultPlan(kind="crash", at=1.0, worker="w99")]))
    with pytest.raises(BadRequest, match="two workers are called w1"):
        report(plan_of(load, workers=[WorkerPlan(count=2), WorkerPlan(name="w1")]))
    with pytest.raises(BadRequest, match="did you mean 'steady'"):
        report(plan_of(LoadPlan(arrivals="stedy", rate=1.0, tasks=1)))


def test_jain_index_is_one_for_equals_and_falls_with_what_one_has_more() -> None:
    assert jain_index([5.0]) == 1.0
    assert jain_index([0.0, 0.0]) == 1.0
    assert jain_index([3.0, 1.0]) == pytest.approx(16 / 20)


def test_queue_that_wants_nothing_does_not_count_as_treated_badly() -> None:
    fairness = Fairness({})
    fairness.comes(0.0, 0, "a")
    fairness.comes(0.0, 1, "b")
    fairness.runs(0.0, 0, 1000)
    fairness.runs(0.0, 1, 1000)
    for number in range(3):
        fairness.comes(1.0 + number, 0, "a")
    fairness.runs(2.0, 0, 1000)
    assert fairness.index() is None


def test_queues_share_nothing_where_nobody_waits_for_longer_than_the_way_to_a_worker() -> None:
    loads = [
        LoadPlan(mix="cpu", shapes=1, rate=1.0, tasks=200, mean_duration=seconds, queue=name)
        for name, seconds in (("long", 3.0), ("short", 0.1))
    ]
    seen = report(plan_of(*loads))
    assert seen.waiting_s.max < 0.1
    assert seen.fairness is None


def test_sharing_begins_for_each_queue_when_it_has_waited_for_a_while() -> None:
    fairness = Fairness({})
    for queue, name in enumerate("ab"):
        fairness.comes(0.0, queue, name)
        fairness.runs(0.0, queue, 1000)
    fairness.comes(10.0, 0, "a")
    fairness.comes(20.0, 1, "b")
    fairness.stops(24.0, 0, 1000)
    assert fairness.due == [3000.0, 3000.0]  # from 21 to 24, of two cores

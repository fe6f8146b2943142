"""Parts of the core against a dumb second way of saying the same: placement, waiting lines, backoff, timers, specs."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rota.core.cluster import Room
from rota.core.errors import BadRequest
from rota.core.lifecycle import JITTER, retry_delay_s
from rota.core.model import Backoff, TaskSeq, TaskState
from rota.core.ordering import stream_of
from rota.core.pending import PendingTasks
from rota.core.placement.least_loaded import TIE
from rota.core.requests import parse_requests
from rota.core.spec import TaskRequest, decode_spec, encode_spec, terms_of
from rota.core.task import Task
from rota.core.timers import TaskReady, Timers
from tests.support.core import QUIET, Core, only

# Placement


@given(
    offers=st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=6),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("submit"), st.integers(1, 4), st.integers(0, 4)),
            st.tuples(st.just("end"), st.integers(0, 50), st.just(0)),
            st.tuples(st.just("drain"), st.integers(0, 5), st.integers(0, 1)),
        ),
        max_size=40,
    ),
    seed=st.integers(0, 3),
)
def test_each_placement_is_on_a_worker_with_the_least_load(
    offers: list[tuple[int, int]], steps: list[tuple[str, int, int]], seed: int
) -> None:
    core = Core(config=replace(QUIET, seed=seed))
    for number, (cpu, memory) in enumerate(offers):
        core.hello(f"w{number}", cpu=cpu * 1000, memory=memory * 1000)
    for what, one, two in steps:
        running = sorted(seq for seq, task in core.state.tasks.items() if task.run is not None)
        if what == "drain":
            core.set_drained(f"w{one % len(offers)}", drained=bool(two))
        elif what == "end" and running:
            core.end(running[one % len(running)], run_s=9.0)
        elif what == "submit":
            need = {"cpu": one * 1000, "memory": two * 1000}
            expected = _least_loaded(core, need)
            seq = only(core.submit(resources=need))
            task = core.task(seq)
            assert (task.run is None) == (not expected)
            assert task.run is None or core.worker_of(seq) in expected
            if task.run is None:  # what waits would be placed in later steps, and is not what is compared
                core.cancel(seq)


def _least_loaded(core: Core, need: dict[str, int]) -> set[str]:
    """The workers that may get this task, found by looking at everything."""
    loads = {}
    for worker in core.state.cluster.workers.values():
        lanes = [dict(lane.room.shape.resources) for lane in worker.lanes.values()]
        capacity = dict(worker.offer.resources)
        used = {name: sum(lane.get(name, 0) for lane in lanes) for name in capacity}
        if not worker.drained and all(capacity[name] - used[name] >= amount for name, amount in need.items()):
            loads[worker.id] = max(used[name] / capacity[name] for name in capacity)
    least = min(loads.values(), default=0.0)
    return {str(name) for name, load in loads.items() if load <= least + TIE + 1e-9}


# Waiting lines


@given(st.lists(st.tuples(st.sampled_from(["add", "again", "take", "drop"]), st.integers(0, 100)), max_size=80))
def test_waiting_tasks_come_out_in_order_whatever_happens_between(steps: list[tuple[str, int]]) -> None:
    core = Core()
    terms = terms_of(only(parse_requests(b'{"command": ["a"]}', tasks_max=1)[0]))
    room: Room = core.state.cluster.room_of(terms)
    pending, stream = PendingTasks(), stream_of(terms)
    waiting: dict[TaskSeq, Task] = {}
    away: list[Task] = []
    next_seq = 1
    for what, pick in steps:
        if what == "add" or (what == "again" and not away):
            task = Task(TaskSeq(next_seq), None, terms, b"")
            next_seq += 1
        elif what == "again":
            task = away.pop(pick % len(away))
        elif not waiting:
            continue
        elif what == "take":
            group = pending.groups[room][stream]
            count = 1 + pick % min(3, len(waiting))
            first = [waiting[seq] for seq in sorted(waiting)[:count]]
            assert group.head() is first[0]
            assert group.first(count) == first
            assert pending.take(group, count) == first
            away += [waiting.pop(task.seq) for task in first]
            continue
        else:
            dropped = waiting.pop(sorted(waiting)[pick % len(waiting)])
            dropped.state = TaskState.CANCELLED
            pending.dropped(stream, room)
            away.append(Task(dropped.seq, None, terms, b""))  # a person may bring it back
            continue
        pending.add(task, stream, room)
        waiting[task.seq] = task
    assert pending.size == len(waiting)
    assert sorted(task.seq for group in pending.all_groups() for task in group.tasks()) == sorted(waiting)
    assert bool(pending.groups) == bool(waiting)


# Backoff


@given(
    base_s=st.floats(0.0, 1e6),
    factor=st.floats(1.0, 100.0),
    cap_s=st.floats(0.0, 1e6),
    failures=st.integers(1, 1_000_000),
    seed=st.integers(0, 1000),
)
def test_delay_is_bounded_and_never_shrinks_but_by_jitter(
    base_s: float, factor: float, cap_s: float, failures: int, seed: int
) -> None:
    backoff = Backoff(base_s, factor, cap_s)
    full_s = min(cap_s, base_s * factor ** min(failures - 1, 64))
    delay_s = retry_delay_s(backoff, failures, random.Random(seed))
    assert full_s * (1 - JITTER) <= delay_s <= full_s <= cap_s
    assert retry_delay_s(backoff, failures, random.Random(seed)) == delay_s
    assert retry_delay_s(backoff, failures + 1, random.Random(seed)) >= delay_s


# Timers


@given(
    set_at=st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=30),
    looks=st.lists(st.tuples(st.floats(0, 10), st.floats(-50, 50)), max_size=20),
)
def test_every_timer_fires_once_on_its_clock_and_not_early(
    set_at: list[tuple[float, bool]], looks: list[tuple[float, float]]
) -> None:
    timers = Timers()
    left = {}
    for number, (at, is_calendar) in enumerate(set_at):
        (timers.at_wall if is_calendar else timers.at)(at, TaskReady(TaskSeq(number), 0))
        left[number] = at, is_calendar
    now, wall = 0.0, 0.0
    for step_s, jump_s in looks:
        now, wall = now + step_s, wall + step_s + jump_s
        fired = {timer.seq for timer in timers.take_due(now=now, wall=wall) if isinstance(timer, TaskReady)}
        due = {number for number, (at, is_calendar) in left.items() if at <= (wall if is_calendar else now)}
        assert fired == due
        left = {number: timer for number, timer in left.items() if number not in due}
        next_at = timers.next_at(now=now, wall=wall)
        assert (next_at is None) == (not left)
        steady = [at for at, is_calendar in left.values() if not is_calendar]
        assert next_at is None or now <= next_at <= min(steady, default=math.inf)


# Specs

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=5,
)


@given(st.one_of(st.binary(max_size=60), st.text().map(str.encode), JSON.map(lambda value: json.dumps(value).encode())))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    _read(body)


@given(st.dictionaries(st.sampled_from([*TaskRequest.__struct_fields__, "comand", ""]), JSON, max_size=5))
def test_any_fields_are_read_or_refused(fields: dict[str, Any]) -> None:
    _read(json.dumps({"command": ["a"], **fields}).encode())


@given(st.dictionaries(st.sampled_from(["start_at", "deadline"]), st.datetimes(timezones=st.timezones()), max_size=2))
def test_any_calendar_time_is_taken_whole_or_refused(times: dict[str, Any]) -> None:
    _read(json.dumps({"command": ["a"], **{name: time.isoformat() for name, time in times.items()}}).encode())


def _read(body: bytes) -> None:
    """Read a body as the edge does: it gives tasks that can be encoded and decided on, or an error of ours."""
    try:
        requests, _ = parse_requests(body, tasks_max=10)
        encoded = [encode_spec(request) for request in requests]
    except BadRequest:
        return
    for request, data in zip(requests, encoded, strict=True):
        assert terms_of(decode_spec(data)) == terms_of(request)
        assert encode_spec(decode_spec(data)) == data

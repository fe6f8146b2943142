"""A scheduler that is not used any more leaves nothing behind: after an outage another one takes its place."""

from __future__ import annotations

import gc

from rota.core.workers import Worker
from tests.support.core import Core

NAME = "of a scheduler that is gone"


def left() -> int:
    gc.collect()
    return sum(isinstance(found, Worker) and found.id == NAME for found in gc.get_objects())


def test_lanes_and_tasks_which_the_collector_cannot_see_keep_nothing() -> None:
    core = Core()
    core.hello(NAME, cpu=2000)
    first = core.submit(2)
    core.start(first[0])
    core.end(first[0], run_s=0.01)  # how long they take is known now: lines are made, and lanes are hungry
    core.submit(40)
    worker = core.state.cluster.workers[next(iter(core.state.cluster.workers))]
    assert max(len(lane.line) for lane in worker.lanes.values()) > 1
    del worker
    assert left() == 1
    core.scheduler.dismantle()
    del core
    assert left() == 0

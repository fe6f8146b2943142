"""All that is known of why a task waits: what each worker lacks, what would help, when its turn may come."""

from __future__ import annotations

from typing import Any

import pytest

from rota.core.model import Reason, TaskSeq
from rota.core.why import Why, why_it_waits
from tests.support.core import Core, only


def why(core: Core, seq: TaskSeq) -> Why:
    return why_it_waits(core.state, core.task(seq))


def waiting(core: Core, **fields: Any) -> Why:
    return why(core, only(core.submit(**fields)))


def texts(found: Why) -> list[str]:
    return [blocker.text for blocker in found.blockers]


def test_each_worker_is_counted_once_by_the_first_thing_that_it_lacks() -> None:
    core = Core()
    for name in ("w1", "w2", "w3"):
        core.hello(name)
    core.hello("w4", tags=["gpu"], memory=2900)
    core.hello("w5", tags=["gpu"], memory=4096)
    core.hello("w6", tags=["gpu"], memory=4096)
    core.set_drained("w6", drained=True)
    core.submit(tags=["gpu"], resources={"memory": 3000})
    found = waiting(core, tags=["gpu"], resources={"memory": 3500})
    assert found.reason is Reason.RESOURCES
    assert sum(blocker.workers for blocker in found.blockers) == 6
    assert texts(found) == [
        "3 workers lack tag gpu",
        "1 worker has less than 3,500 MiB memory free (most free: 1,096 MiB on w5)",
        "1 worker has less than 3,500 MiB memory in all (the largest, w4: 2,900 MiB)",
        "1 worker is draining",
    ]


def test_the_nearest_miss_is_what_most_workers_could_give_now() -> None:
    core = Core()
    for name, memory in (("w1", 6000), ("w2", 6100), ("w3", 1000), ("w4", 9000)):
        core.hello(name, memory=memory, cpu=2000)
    core.submit(resources={"memory": 9000})
    found = waiting(core, resources={"memory": 8000})
    assert found.nearest is not None
    assert (found.nearest.resource, found.nearest.amount, found.nearest.workers) == ("memory", 6000, 2)
    assert found.nearest.text == "would fit on 2 workers with 6,000 MiB memory"


def test_the_nearest_miss_may_be_a_tag() -> None:
    core = Core()
    core.hello("w1", tags=["a"])
    core.hello("w2", tags=["a"])
    core.hello("w3", tags=["b"])
    found = waiting(core, tags=["a", "b"])
    assert found.reason is Reason.TAGS
    assert texts(found) == ["2 workers lack tag b", "1 worker lacks tag a"]
    assert found.nearest is not None
    assert (found.nearest.tag, found.nearest.workers) == ("b", 2)
    assert found.nearest.text == "would fit on 2 workers without tag b"


def test_there_is_no_advice_where_no_single_change_helps() -> None:
    core = Core()
    core.hello("w1", cpu=1000, memory=100)
    found = waiting(core, resources={"cpu": 2000, "memory": 200})
    assert found.reason is Reason.IMPOSSIBLE
    assert found.nearest is None


def test_the_impossible_is_measured_by_what_workers_have_in_all() -> None:
    core = Core()
    core.hello("w1", cpu=4000)
    core.submit(resources={"cpu": 4000})
    found = waiting(core, resources={"cpu": 64000})
    assert texts(found) == ["1 worker has less than 64 cores in all (the largest, w1: 4)"]
    assert found.nearest is not None
    assert found.nearest.amount == 4000


@pytest.mark.parametrize(
    "offer,fields,text",
    [
        ({"gpus": [8000]}, {"resources": {"gpu": 2}}, "1 worker has less than 2 GPUs in all (the largest, w1: 1)"),
        (
            {"gpus": [8000]},
            {"resources": {"gpu_memory": 9000}},
            "1 worker has less than 9,000 MiB GPU memory in all (the largest, w1: 8,000 MiB)",
        ),
        ({}, {"image": "alpine"}, "1 worker lacks the executor for container tasks"),
        ({"max_tasks": 0}, {}, "1 worker runs as many tasks as it may"),
    ],
)
def test_what_a_worker_lacks_is_named(offer: dict[str, Any], fields: dict[str, Any], text: str) -> None:
    core = Core()
    core.hello("w1", **offer)
    assert texts(waiting(core, **fields)) == [text]


def test_a_share_of_a_card_is_told_with_the_largest_that_is_free() -> None:
    core = Core()
    core.hello(gpus=[8000])
    core.submit(resources={"gpu_memory": 5000})
    found = waiting(core, resources={"gpu_memory": 4000})
    assert texts(found) == ["1 worker has less than 4,000 MiB GPU memory free (most free: 3,000 MiB on w1)"]


def test_its_place_is_behind_higher_priorities_and_earlier_tasks() -> None:
    core = Core()
    core.hello(cpu=1000)
    core.submit()
    earlier = core.submit(3, priority=50)
    task = only(core.submit(priority=50))
    core.submit(2, priority=50)
    core.submit(4, priority=90, resources={"cpu": 500})
    core.submit(5, priority=10)
    core.cancel(earlier[0])
    place = why(core, task).place
    assert place is not None
    assert (place.ahead, place.of) == (2 + 4, 2 + 1 + 2 + 4 + 5)


def test_when_it_may_start_follows_from_run_times_so_far() -> None:
    core = Core()
    core.hello(cpu=1000)
    first = only(core.submit())
    core.submit(11)
    last = only(core.submit())
    assert why(core, last).start is None  # nobody knows how long such tasks take
    core.end(first, run_s=10.0)
    start = why(core, last).start
    assert start is not None
    assert core.wall + 50 <= start.earliest <= core.wall + 110 <= start.latest <= core.wall + 250
    assert start.basis == "tasks like it take 10.0 s, 1 can run at once, 10 go first"


def test_a_task_that_waits_for_its_time_says_when_that_is() -> None:
    core = Core()
    core.hello()
    found = waiting(core, delay=60.0)
    assert found.reason is Reason.START_TIME
    assert found.start is not None
    assert found.start.earliest == found.start.latest == core.wall + 60.0
    assert found.blockers == ()

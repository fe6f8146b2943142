"""Why a task waits: the reason and the sentence, for every state of waiting there is."""

from __future__ import annotations

from typing import Any, Final

import pytest

from rota.core.config import SchedulerConfig
from rota.core.explain import EXPLANATIONS_MAX, Explainer, explain_wait, place_in_line, reasons
from rota.core.model import Cause, Reason, TaskSeq, TaskState
from tests.support.core import QUIET, Core, only

PATIENT_S = 600.0


def why(core: Core, seq: TaskSeq) -> tuple[str, str]:
    """The reason of a waiting task, checked against the count of all reasons."""
    reason, text = explain_wait(core.state, core.task(seq))
    assert reasons(core.state)[reason] >= 1
    return reason.value, text


def waiting(core: Core, **fields: Any) -> tuple[str, str]:
    return why(core, only(core.submit(**fields)))


def test_nobody_has_registered() -> None:
    assert waiting(Core()) == ("no-workers", "no worker has registered yet")


def test_all_who_could_are_away_or_drained() -> None:
    core = Core()
    core.hello("w1")
    core.hello("w2", tags=["ssd"])
    core.hello("w3", cpu=100)
    core.close("w1")
    core.set_drained("w2", drained=True)
    assert waiting(core) == (
        "no-workers",
        "no worker that could run it takes tasks now (1 disconnected, 1 draining)",
    )


def test_workers_are_full() -> None:
    core = Core()
    core.hello("w1", cpu=2000)
    core.hello("w2", cpu=1500)
    core.submit(3)
    assert waiting(core) == ("resources", "waits for 1 core (most free: 0.5 on w2) on 2 workers")


def test_worker_runs_as_many_tasks_as_it_may() -> None:
    core = Core()
    core.hello(max_tasks=1)
    core.submit()
    assert waiting(core) == ("resources", "1 worker run as many tasks as they may")


def test_room_is_there_but_not_on_one_worker() -> None:
    core = Core()
    core.hello("w1", cpu=2000, memory=2000)
    core.hello("w2", cpu=2000, memory=2000)
    core.submit(resources={"cpu": 2000, "memory": 1})
    core.submit(resources={"cpu": 1, "memory": 2000})
    reason, text = waiting(core, resources={"cpu": 1000, "memory": 1000})
    assert (reason, text) == ("resources", "waits for 1 core, 1,000 MiB memory to be free on one of 2 workers")


def test_cards_are_taken() -> None:
    core = Core()
    core.hello(gpus=[8000])
    core.submit(resources={"gpu": 1})
    assert waiting(core, resources={"gpu": 1}) == (
        "resources",
        "waits for 1 core, 1 GPU to be free on one of 1 worker",
    )


@pytest.mark.parametrize(
    "fields,text",
    [
        ({"tags": ["ssd"]}, "no worker has the tag ssd"),
        ({"tags": ["b", "ssd", "a"]}, "no worker has the tag b, ssd"),
        ({"tags": ["a", "c"]}, "no worker has all of the tags a, c"),
        ({"image": "alpine"}, "no worker can run tasks of kind container"),
        ({"command": None, "data": "go:x"}, "waits for a worker with a Go toolchain: none of 2 workers has one"),
    ],
)
def test_tags_that_no_worker_has(fields: dict[str, Any], text: str) -> None:
    core = Core()
    core.hello("w1", tags=["a"])
    core.hello("w2", tags=["c"])
    assert waiting(core, **fields) == ("tags", text)


FUNCTION: Final = {"command": None, "function": "ab" * 32, "python": "3.12"}


def python_worker(core: Core, name: str, python: str, *tags: str) -> None:
    core.hello(name, kinds=frozenset({"process", "function"}), python=python, tags=tags)


def test_a_function_says_which_pythons_there_are() -> None:
    core = Core()
    core.hello("w0")
    assert waiting(core, **FUNCTION) == ("tags", "no worker can run tasks of kind function")
    python_worker(core, "w1", "3.11")
    assert waiting(core, **FUNCTION) == ("tags", "no worker runs Python 3.12 (w1 has 3.11)")
    for name in ("w4", "w3", "w2"):
        python_worker(core, name, "3.10")
    text = "no worker runs Python 3.12 (w2 and 2 more have 3.10, w1 has 3.11)"
    assert waiting(core, **FUNCTION) == ("tags", text)
    assert waiting(core, **FUNCTION, tags=["ssd"]) == ("tags", text)


def test_tags_and_python_that_no_worker_has_together() -> None:
    core = Core()
    python_worker(core, "w1", "3.12")
    python_worker(core, "w2", "3.11", "ssd")
    assert waiting(core, **FUNCTION, tags=["ssd"]) == ("tags", "no worker has all of the tags ssd, Python 3.12")


@pytest.mark.parametrize(
    "resources,text",
    [
        ({"cpu": 64_000}, "needs 64 cores; the largest worker, w2, has 8"),
        ({"memory": 9000}, "needs 9,000 MiB memory; the largest worker, w1, has 8 GiB"),
        ({"licences": 1}, "needs 1 licences; the largest worker, w2, has 0"),
        ({"gpu": 3}, "needs 3 GPUs; the largest worker, w2, has 2"),
        ({"gpu_memory": 20_000}, "needs 20,000 MiB GPU memory; the largest worker, w2, has 16,000 MiB"),
        ({"cpu": 6000, "memory": 8000}, "no single worker has 6 cores, 8,000 MiB memory together"),
        ({"gpu": 2, "gpu_memory": 10_000}, "no single worker has 1 core, 2 GPUs, 10,000 MiB GPU memory together"),
    ],
)
def test_impossible_names_the_largest_worker(resources: dict[str, int], text: str) -> None:
    core = Core()
    core.hello("w1", cpu=4000, memory=8192)
    core.hello("w2", cpu=8000, memory=4096, gpus=[8000, 16_000])
    assert waiting(core, resources=resources) == ("impossible", text)


def test_impossible_counts_workers_that_are_away() -> None:
    core = Core()
    core.hello("w1", cpu=64_000)
    core.hello("w2")
    core.close("w1")
    assert waiting(core, resources={"cpu": 64_000})[0] == "no-workers"


def test_held_tasks_say_until_when() -> None:
    core = Core()
    core.hello()
    delayed = only(core.submit(start_at="2099-01-31T12:00:00Z"))
    failed = only(core.submit(retries=1, backoff={"base": 60, "max": 60}))
    core.end(failed, "exit")
    assert why(core, delayed) == ("start-time", "its start time, 2099-01-31 12:00:00 UTC, has not come")
    reason, text = why(core, failed)
    assert reason == "backoff"
    assert text.endswith("s before attempt 2")


def test_reason_changes_with_the_workers() -> None:
    core = Core()
    seq = only(core.submit(tags=["ssd"], resources={"cpu": 3000}))
    assert why(core, seq)[0] == "no-workers"
    core.hello("w1")
    assert why(core, seq)[0] == "tags"
    core.hello("w2", tags=["ssd"], cpu=2000)
    assert why(core, seq)[0] == "impossible"
    core.hello("w3", tags=["ssd"])
    assert core.states([seq]) == ["assigned"]


def test_reasons_of_all_waiting_tasks_are_counted() -> None:
    core = Core()
    core.hello(cpu=1000)
    core.submit(3)
    core.submit(2, tags=["x"])
    core.submit(4, resources={"cpu": 2000})
    core.submit(1, delay=9)
    assert reasons(core.state) == {
        Reason.RESOURCES: 2,
        Reason.TAGS: 2,
        Reason.IMPOSSIBLE: 4,
        Reason.START_TIME: 1,
    }


def test_assigned_task_says_how_many_stand_before_it() -> None:
    core = Core()
    core.hello(cpu=1000)
    core.end(only(core.submit()), run_s=0.001)
    seqs = core.submit(3)
    assert [place_in_line(core.task(seq)) for seq in seqs] == [0, 1, 2]
    core.hello("w2", cpu=1)
    assert place_in_line(core.task(only(core.submit(tags=["none"])))) is None


def test_one_answer_explains_only_so_many_shapes_with_numbers() -> None:
    core = Core()
    core.hello(cpu=1000)
    core.submit()
    seqs = [only(core.submit(resources={"memory": 1 + memory})) for memory in range(EXPLANATIONS_MAX + 5)]
    held = only(core.submit(delay=9))
    explainer = Explainer(core.state)
    said = [explainer.explain(core.task(seq)) for seq in (*seqs, *seqs)]
    assert {reason for reason, _ in said} == {Reason.RESOURCES}
    assert ["most free" in text for _, text in said] == [*[True] * EXPLANATIONS_MAX, *[False] * 5] * 2
    assert said[-1][1] == "waits for room on a worker"
    assert explainer.explain(core.task(held))[0] is Reason.START_TIME


# Patience


def impatient() -> SchedulerConfig:
    return SchedulerConfig(
        heartbeat_s=QUIET.heartbeat_s,
        suspicious_after_s=QUIET.suspicious_after_s,
        offline_after_s=QUIET.offline_after_s,
        impossible_after_s=PATIENT_S,
    )


def test_impossible_task_fails_when_nobody_came_who_could() -> None:
    core = Core(config=impatient())
    core.hello()
    seq = only(core.submit(resources={"cpu": 64_000}))
    core.pass_time(PATIENT_S - 1.0)
    assert core.states([seq]) == ["pending"]
    core.pass_time(2.0)
    progress = core.progress(seq)
    assert (progress.state, progress.cause) == (TaskState.FAILED, Cause.IMPOSSIBLE)
    assert progress.message == "needs 64 cores; the largest worker, w1, has 4"


def test_task_that_came_later_is_given_its_own_time() -> None:
    core = Core(config=impatient())
    core.hello()
    first = only(core.submit(resources={"cpu": 64_000}))
    core.pass_time(PATIENT_S - 10.0)
    second = only(core.submit(resources={"cpu": 64_000}))
    core.pass_time(20.0)
    assert core.states([first, second]) == ["failed", "pending"]
    core.pass_time(2 * PATIENT_S)
    assert core.states([second]) == ["failed"]


def test_worker_that_comes_in_time_saves_the_task() -> None:
    core = Core(config=impatient())
    core.hello()
    seq = only(core.submit(resources={"cpu": 64_000}))
    core.pass_time(PATIENT_S - 1.0)
    core.hello("big", cpu=64_000)
    core.pass_time(PATIENT_S)
    assert core.states([seq]) == ["assigned"]


def test_time_in_which_somebody_could_have_does_not_count() -> None:
    core = Core(config=impatient())
    core.hello("big", cpu=64_000)
    core.submit(resources={"cpu": 64_000})
    seq = only(core.submit(resources={"cpu": 64_000}))
    core.pass_time(10 * PATIENT_S)
    assert core.states([seq]) == ["pending"]
    core.close("big")
    core.hello("big", instance="i2", cpu=1000)  # the machine was made smaller
    core.pass_time(PATIENT_S - 1.0)
    assert core.states([seq]) == ["pending"]
    core.pass_time(2.0)
    assert core.states([seq]) == ["failed"]


def test_patience_begins_anew_when_somebody_could_in_between() -> None:
    core = Core(config=impatient())
    core.hello("w1")
    seq = only(core.submit(resources={"cpu": 64_000}, retries=1, backoff={"base": 0}))
    core.pass_time(PATIENT_S / 2)
    core.hello("big", cpu=64_000)
    core.set_drained("big", drained=True)
    core.end(seq, "exit")
    core.close("big")
    core.hello("big", instance="i2", cpu=1000)
    core.pass_time(PATIENT_S - 1.0)
    assert why(core, seq)[0] == "impossible"
    core.pass_time(2.0)
    assert core.states([seq]) == ["failed"]


def test_without_any_worker_nothing_is_impossible() -> None:
    core = Core(config=impatient())
    seq = only(core.submit(resources={"cpu": 64_000}))
    core.pass_time(10 * PATIENT_S)
    assert core.states([seq]) == ["pending"]

"""From a spec to a program: what is started, with which environment and limits."""

from __future__ import annotations

import pytest

from rota.core.model import LaneId, TaskId, TaskSeq
from rota.core.spec import TaskSpec
from rota.worker.executors.base import LaunchRefused
from rota.worker.executors.process import ProcessExecutor, base_environment
from rota.worker.slots.base import Work
from rota.worker.slots.pool import SlotPool

WORK = Work(key=(TaskSeq(5), 2), lane=LaneId(1), id=TaskId("nightly"), spec=b"")


def executor(*, has_gpus: bool = False) -> ProcessExecutor:
    return ProcessExecutor(worker_id="w1", has_gpus=has_gpus)


def test_a_command_is_run_as_it_is() -> None:
    launch = executor().launch(TaskSpec(command=["echo", "$HOME"], cwd="/tmp", stdin="é", timeout=2.5), WORK)
    assert launch.argv == ["echo", "$HOME"]
    assert (launch.cwd, launch.stdin, launch.timeout_s, launch.memory_mib) == ("/tmp", "é".encode(), 2.5, None)


def test_a_shell_line_goes_to_the_shell() -> None:
    assert executor().launch(TaskSpec(shell="a | b"), WORK).argv == ["/bin/sh", "-c", "a | b"]


def test_nothing_to_run_is_refused() -> None:
    with pytest.raises(LaunchRefused):
        executor().launch(TaskSpec(image="debian"), WORK)


@pytest.mark.parametrize("data", ["", "ruby:puts 1", "python"])
def test_data_that_names_no_kind_of_snippet_is_refused_with_the_kinds_there_are(data: str) -> None:
    with pytest.raises(LaunchRefused, match=r"python: or go:"):
        executor().launch(TaskSpec(data=data), WORK)


@pytest.mark.parametrize("asked, limit", [({}, None), ({"memory": 0}, None), ({"memory": 64}, 64)])
def test_a_request_for_memory_is_a_limit(asked: dict[str, int], limit: int | None) -> None:
    assert executor().launch(TaskSpec(command=["true"], resources=asked), WORK).memory_mib == limit


def test_facts_of_the_attempt_win_over_what_the_task_says() -> None:
    env = executor().launch(TaskSpec(command=["true"], env={"A": "1", "ROTA_TASK_ID": "x"}, priority=90), WORK).env
    assert env == {
        "A": "1",
        "ROTA_TASK_ID": "nightly",
        "ROTA_ATTEMPT": "2",
        "ROTA_WORKER": "w1",
        "ROTA_QUEUE": "default",
        "ROTA_PRIORITY": "90",
    }


def test_base_environment_holds_no_secrets() -> None:
    own = {"HOME": "/h", "LC_TIME": "C", "ROTA_TOKEN": "x", "AWS_SECRET": "x", "LD_PRELOAD": "x", "PYTHONPATH": "x"}
    assert set(base_environment(own)) == {"PATH", "HOME", "LC_TIME"}


@pytest.mark.parametrize("limit", [0, 1024, 1 << 40])
def test_a_senseless_output_limit_is_refused(limit: int) -> None:
    class Nobody:
        def on_events(self, started: object, ended: object, output: object) -> None: ...
        def on_marks(self, marks: object) -> None: ...
        def on_quarantined(self, lane: object, message: object) -> None: ...

    with pytest.raises(ValueError, match=r"output_limit_bytes must be 8,192 to 67,108,864"):
        SlotPool(events=Nobody(), worker_id="w1", output_limit_bytes=limit)

"""`rota bench` on a real cluster: figures and sentences, nothing left behind, and no surprise for others."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from tests.support.commands import Rota, running_cluster
from tests.support.waiting import wait_until

pytestmark = pytest.mark.xdist_group("e2e-bench")

FIGURES = (
    "request", "submit", "round_trip", "program_ms", "commit_ms", "commands_per_second", "functions_per_second",
    "function_round_trip", "output_mb_per_second",
)  # fmt: skip


@pytest.fixture(scope="module")
def rota(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rota]:
    with running_cluster(tmp_path_factory.mktemp("cluster"), "--workers", "2", "--resources", "cpu=2000") as (rota, _):
        yield rota


def tasks_of(rota: Rota, *filters: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(rota.ok("ps", "--json", "--all", *filters))
    return found


def test_a_cluster_is_measured_and_the_figures_are_told(rota: Rota) -> None:
    figures = json.loads(rota.ok("bench", "--seconds", "20", "--json"))
    assert (figures["workers"], figures["cores"], figures["url"]) == (2, 2, rota.url)
    assert not [name for name in FIGURES if not figures[name]], figures["left_out"]
    assert {worker["id"] for worker in figures["by_worker"]} == {"w1", "w2"}
    assert any("A command costs about" in sentence for sentence in figures["verdicts"])
    # All that it sent is found by its label, has ended, and is as many as it says.
    mine = tasks_of(rota, "--label", f"bench={figures['run']}")
    assert len(mine) == figures["tasks"]
    assert {task["state"] for task in mine} <= {"completed", "cancelled"}
    assert {task["priority"] for task in mine} == {10}


def test_people_get_a_table_and_sentences(rota: Rota) -> None:
    shown = rota.ok("bench", "--seconds", "3")
    first, _, rest = shown.partition("\n")
    assert first.startswith(f"{rota.url}: 2 workers with 2 cores; ")
    assert "a command, submitted and waited for\t" in rest
    assert "\n- A command costs about " in rest


def test_ctrl_c_cancels_what_is_left(rota: Rota) -> None:
    before = len(tasks_of(rota, "--name", "bench"))
    with rota.start("bench", "--seconds", "600", name="interrupted") as bench:
        wait_until(lambda: len(tasks_of(rota, "--name", "bench")) > before, what="the bench to have begun")
        bench.send_signal(signal.SIGINT)
        assert bench.wait_for_exit(timeout_s=60.0) == 130
        assert "tasks of the bench are cancelled" in bench.output()
    wait_until(
        lambda: (
            not tasks_of(rota, "--name", "bench", "--state", "pending", "--state", "running", "--state", "assigned")
        ),
        what="nothing of it to be left",
    )


def test_a_cluster_with_other_work_is_left_alone(rota: Rota) -> None:
    task_id = rota.ok("submit", "--", "sleep", "600").strip()
    wait_until(lambda: tasks_of(rota, "--state", "running"), what="the other work to run")
    refused = rota.run("bench", "--seconds", "3")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "the cluster has other work (1 running, 0 waiting for room)" in refused.stderr
    assert "say --anyway" in refused.stderr
    assert "many commands" in rota.ok("bench", "--seconds", "3", "--anyway")
    rota.ok("cancel", task_id)


def test_a_queue_that_starts_nothing_is_told_and_nothing_is_left(rota: Rota) -> None:
    rota.ok("queues", "set", "closed", "--pause")
    refused = rota.run("bench", "--seconds", "2", "--queue", "closed")
    assert refused.returncode == 1
    assert "of the bench did not end in time: " in refused.stderr
    assert "paused" in refused.stderr
    assert {task["state"] for task in tasks_of(rota, "--queue", "closed")} == {"cancelled"}


def test_this_machine_is_measured_without_a_cluster(rota: Rota) -> None:
    figures = json.loads(Rota("http://127.0.0.1:9", rota.folder).ok("bench", "--local", "--seconds", "3", "--json"))
    assert figures["workers"] == 1
    assert figures["commands_per_second"] > 0

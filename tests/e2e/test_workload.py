"""``rota workload`` as a user types it, and a cluster that puts a load on itself."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.commands import Rota, running_cluster
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def rota(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rota]:
    with running_cluster(tmp_path_factory.mktemp("workload"), "--resources", "cpu=4000,memory=1G") as (rota, _):
        yield rota


def listed(rota: Rota, *arguments: str) -> list[dict[str, Any]]:
    return json.loads(rota.ok("ps", "--json", "--all", *arguments))  # type: ignore[no-any-return]  # an array of tasks


def test_a_load_is_submitted_by_the_clock_and_summed_up(rota: Rota) -> None:
    arguments = ("--rate", "10", "--duration", "2s", "--mean-duration", "20ms", "--seed", "7")
    said = rota.ok("workload", "--pattern", "sinusoidal", "--mix", "mixed", "--queue", "tries", *arguments)
    assert said.startswith("submitted 20 tasks in ")
    assert "seed 7)" in said
    assert "20 completed, 0 failed, 0 cancelled" in said
    assert "waited    half " in said
    tasks = listed(rota, "--queue", "tries")
    assert len(tasks) == 20
    assert {task["kind"] for task in tasks} == {"workload"}
    assert {task["name"].split("-")[0] for task in tasks} == {"cpu", "io", "memory"}
    assert all(task["resources"]["memory"] <= 1024 for task in tasks)


def test_same_seed_makes_the_same_tasks(rota: Rota) -> None:
    arguments = ("--rate", "50", "--duration", "200ms", "--mean-duration", "5ms", "--seed", "11", "--mix", "io")
    made = []
    for queue in ("first", "second"):
        summary = json.loads(rota.ok("workload", "--queue", queue, "--json", *arguments))
        assert (summary["submitted"], summary["completed"], summary["left"]) == (10, 10, 0)
        assert 0 <= summary["waited_p50"] <= summary["waited_p95"] <= summary["waited_max"]
        made.append([(task["name"], task["resources"]) for task in listed(rota, "--queue", queue)])
    assert made[0] == made[1]


def test_failures_are_told_and_are_the_exit_code(rota: Rota) -> None:
    with rota.start(
        "workload", "--mix", "cpu", "--rate", "5", "--duration", "1s", "--durations", "fixed",
        "--mean-duration", "1h", "--queue", "doomed", name="doomed",
    ) as load:  # fmt: skip
        wait_until(lambda: len(listed(rota, "--queue", "doomed")) == 5, what="all of the load")
        rota.ok("cancel", *(task["id"] for task in listed(rota, "--queue", "doomed")))
        assert load.wait_for_exit() == 1
        assert "0 completed, 0 failed, 5 cancelled" in load.output()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_submitting_and_tells_what_is_left(rota: Rota, number: signal.Signals) -> None:
    queue = f"stopped-{number}"
    with rota.start(
        "workload", "--mix", "io", "--rate", "5", "--duration", "1h", "--durations", "fixed",
        "--mean-duration", "1h", "--queue", queue, name=queue,
    ) as load:  # fmt: skip
        wait_until(lambda: len(listed(rota, "--queue", queue)) >= 2, what="some of the load")
        load.send_signal(number)
        assert load.wait_for_exit() == 130
        tasks = listed(rota, "--queue", queue)
        assert f"0 completed, 0 failed, 0 cancelled, {len(tasks)} left" in load.output()
        assert f"rota: {len(tasks)} tasks go on; see 'rota ps --label workload=w-" in load.output()
    rota.ok("cancel", *(task["id"] for task in tasks))


@pytest.mark.parametrize(
    "arguments,says",
    [
        (["--pattern", "burst"], "did you mean 'bursty'"),
        (["--mix", "gpu"], "there is no 'gpu'"),
        (["--durations", "paretto"], "did you mean 'pareto'"),
        (["--rate", "nan"], "rate is nan"),
        (["--rate", "-1"], "rate is -1"),
        (["--rate", "1000000", "--duration", "1d"], "at most 1,000,000 in one run"),
        (["--duration", "-1s"], "-1s"),
        (["--queue", "a b"], "queue"),
        (["--url", "http://127.0.0.1:1"], "127.0.0.1:1"),
    ],
)
def test_a_mistake_is_told_in_a_line(rota: Rota, arguments: list[str], says: str) -> None:
    result = rota.run("workload", "--duration", "100ms", "--rate", "20", *arguments)
    assert result.returncode in (1, 2, 125)
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_a_restart_of_the_coordinator_costs_the_load_nothing(rota: Rota) -> None:
    with rota.start("coordinator", "--port", "0", "--state-dir", "other", name="before") as before:
        url = before.wait_for_line(r"listening on (http://\S+)$", timeout_s=60.0)[1]
        other = Rota(url, rota.folder)
        with other.start("workload", "--mix", "io", "--rate", "20", "--duration", "3s", "--mean-duration", "1ms",
                         name="load") as load:  # fmt: skip
            wait_until(lambda: len(listed(other)) >= 5, what="some of the load")
            before.send_signal(signal.SIGTERM)
            assert before.wait_for_exit(timeout_s=60.0) == 0
            port = url.rpartition(":")[2]
            with other.start("coordinator", "--port", port, "--state-dir", "other", name="after") as after:
                after.wait_for_line("listening on", timeout_s=60.0)
                with other.start("worker", "--server", url, "--id", "w1", name="worker"):
                    assert load.wait_for_exit(timeout_s=60.0) == 0
    assert "60 completed, 0 failed, 0 cancelled" in load.output()


def test_a_coordinator_that_is_full_holds_the_load_back(rota: Rota) -> None:
    small = ("coordinator", "--port", "0", "--state-dir", "small", "--max-pending", "100")
    with rota.start(*small, name="small") as coordinator:
        url = coordinator.wait_for_line(r"listening on (http://\S+)$", timeout_s=60.0)[1]
        narrow = Rota(url, rota.folder)
        with narrow.start("workload", "--mix", "io", "--rate", "120", "--duration", "1s", "--mean-duration", "1ms",
                          name="held") as load:  # fmt: skip
            load.wait_for_line("trying again", timeout_s=60.0)
            with narrow.start("worker", "--server", url, "--id", "w1", name="late"):
                assert load.wait_for_exit(timeout_s=60.0) == 0
    assert "120 completed, 0 failed, 0 cancelled" in load.output()


def test_a_cluster_can_put_a_load_on_itself(tmp_path_factory: pytest.TempPathFactory) -> None:
    arguments = ("--resources", "cpu=2000,memory=1G", "--workload=true")
    with running_cluster(tmp_path_factory.mktemp("own"), *arguments) as (rota, up):
        wait_until(
            lambda: listed(rota, "--queue", "workload", "--state", "completed"), what="a task of its own", timeout_s=60
        )
        assert rota.ok("run", "--", "echo", "meanwhile") == "meanwhile\n"
        up.send_signal(signal.SIGINT)
        assert up.wait_for_exit(timeout_s=60.0) == 0
        assert "Traceback" not in up.output()


def test_without_being_asked_a_cluster_has_no_load(rota: Rota) -> None:
    assert listed(rota, "--queue", "workload") == []


def test_what_a_synthetic_task_does_is_shown(rota: Rota) -> None:
    work = {"mix": "io", "seconds": 0.05, "mib": 2}
    (task_id,) = rota.ok("submit", "--from", "-", stdin=json.dumps({"workload": work})).split()
    assert json.loads(rota.ok("show", "--json", task_id))["workload"] == work
    assert "io for 50ms, 2 MiB" in rota.ok("show", task_id)

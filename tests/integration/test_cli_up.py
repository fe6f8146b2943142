"""``rota up`` as a user runs it: real processes, real ports, and nothing left behind."""

from __future__ import annotations

import signal
import stat
from pathlib import Path

import psutil
import pytest

from tests.support.network import free_port
from tests.support.processes import RunningProcess, running_rota
from tests.support.waiting import wait_until

GREETING = r"^rota is up at (http://127\.0\.0\.1:\d+) with (\d+) worker"
START_S_MAX = 20.0


def up(tmp_path: Path, *arguments: str) -> RunningProcess:
    return running_rota(
        "up", "--state-dir", str(tmp_path / "state"), *arguments, log_path=tmp_path / "up.log", cwd=tmp_path
    )


def children_of(cluster: RunningProcess) -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process(cluster.pid).children(recursive=True)
    return found


def are_gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def test_a_cluster_runs_a_command_and_stops_on_ctrl_c(tmp_path: Path) -> None:
    with up(tmp_path, "--port", "0", "--workers", "2") as cluster:
        found = cluster.wait_for_line(GREETING, timeout_s=START_S_MAX)
        assert found[2] == "2"
        with running_rota(
            "run", "--shell", "echo hello; exit 7", log_path=tmp_path / "run.log", env={"ROTA_URL": found[1]}
        ) as run:
            assert run.wait_for_exit(timeout_s=START_S_MAX) == 7
            assert run.output() == "hello\n"
        processes = children_of(cluster)
        cluster.send_signal(signal.SIGINT)
        assert cluster.wait_for_exit(timeout_s=START_S_MAX) == 0
        assert are_gone(processes)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_it_says_where_it_speaks_grpc_if_it_does(tmp_path: Path) -> None:
    port = free_port()
    with up(tmp_path, "--port", "0", "--grpc-port", str(port), "--workers", "0") as cluster:
        cluster.wait_for_line(r"^Stop with Ctrl-C", timeout_s=START_S_MAX)
        assert f"\ngRPC, with reflection: 127.0.0.1:{port}\n" in cluster.output()
    with up(tmp_path, "--port", "0", "--grpc-port", "off", "--workers", "0") as cluster:
        cluster.wait_for_line(r"^Stop with Ctrl-C", timeout_s=START_S_MAX)
        assert "gRPC" not in cluster.output()


def test_what_it_started_dies_with_it(tmp_path: Path) -> None:
    with up(tmp_path, "--port", "0", "--workers", "1") as cluster:
        cluster.wait_for_line(GREETING, timeout_s=START_S_MAX)
        processes = children_of(cluster)
        assert len(processes) >= 2
        cluster.kill()
        wait_until(lambda: are_gone(processes), what="the end of all its processes")


def worker_of(cluster: RunningProcess, name: str) -> psutil.Process | None:
    children = psutil.Process(cluster.pid).children()
    return next((process for process in children if f"--id={name}" in process.cmdline()), None)


def test_a_worker_that_is_killed_is_started_again_and_its_task_runs_at_once(tmp_path: Path) -> None:
    gate, began = tmp_path / "gate", tmp_path / "began"
    line = f"echo >> {began}; while [ ! -e {gate} ]; do sleep 0.05; done; echo done"
    with up(tmp_path, "--port", "0", "--workers", "1") as cluster:
        url = cluster.wait_for_line(GREETING, timeout_s=START_S_MAX)[1]
        with running_rota("run", "--shell", line, log_path=tmp_path / "run.log", env={"ROTA_URL": url}) as run:
            wait_until(began.exists, what="the task to run", timeout_s=START_S_MAX)
            worker = worker_of(cluster, "w1")
            assert worker is not None
            worker.kill()
            cluster.wait_for_line("rota: worker w1 ended by signal 9; starting it again")
            # Before a worker is given up for its silence alone.
            wait_until(lambda: began.read_text() == "\n\n", what="the task to run again", timeout_s=60.0)
            gate.touch()
            assert run.wait_for_exit(timeout_s=START_S_MAX) == 0


def test_a_worker_that_ends_again_at_once_is_given_up(tmp_path: Path) -> None:
    with up(tmp_path, "--port", "0", "--workers", "2") as cluster:
        cluster.wait_for_line(GREETING, timeout_s=START_S_MAX)
        first = worker_of(cluster, "w2")
        assert first is not None
        first.kill()
        cluster.wait_for_line("rota: worker w2 ended by signal 9; starting it again")
        wait_until(lambda: worker_of(cluster, "w2") is not None, what="the worker to be started again")
        second = worker_of(cluster, "w2")
        assert second is not None
        second.kill()
        cluster.wait_for_line("rota: worker w2 ended by signal 9; 1 left")


def coordinator_of(cluster: RunningProcess) -> psutil.Process:
    def found() -> psutil.Process | None:
        children = psutil.Process(cluster.pid).children()
        return next((one for one in children if one.is_running() and "coordinator" in one.cmdline()), None)

    wait_until(lambda: found() is not None, what="a coordinator")
    coordinator = found()
    assert coordinator is not None
    return coordinator


def test_a_coordinator_that_is_killed_is_started_again_and_what_runs_goes_on(tmp_path: Path) -> None:
    gate, began = tmp_path / "gate", tmp_path / "began"
    line = f"echo >> {began}; while [ ! -e {gate} ]; do sleep 0.05; done; echo done"
    with up(tmp_path, "--port", "0", "--workers", "1") as cluster:
        url = cluster.wait_for_line(GREETING, timeout_s=START_S_MAX)[1]
        with running_rota("run", "--shell", line, log_path=tmp_path / "run.log", env={"ROTA_URL": url}) as run:
            wait_until(began.exists, what="the task to run", timeout_s=START_S_MAX)
            first = coordinator_of(cluster)
            first.kill()
            cluster.wait_for_line("rota: the coordinator ended by signal 9; starting it again, and what runs goes on")
            gate.touch()
            # It found the same address again, and the worker its coordinator.
            assert run.wait_for_exit(timeout_s=START_S_MAX) == 0
        assert began.read_text() == "\n", "the task ran once"


def test_a_coordinator_that_ends_again_at_once_ends_the_cluster(tmp_path: Path) -> None:
    with up(tmp_path, "--port", "0", "--workers", "1") as cluster:
        cluster.wait_for_line(GREETING, timeout_s=START_S_MAX)
        coordinator_of(cluster).kill()
        cluster.wait_for_line("rota: the coordinator ended by signal 9; starting it again")
        processes = children_of(cluster)
        coordinator_of(cluster).kill()
        assert cluster.wait_for_exit(timeout_s=START_S_MAX) == 1
        wait_until(lambda: are_gone(processes), what="the end of all its processes")


def test_a_coordinator_without_a_memory_ends_the_cluster_at_once(tmp_path: Path) -> None:
    began = tmp_path / "began"
    with up(tmp_path, "--port", "0", "--workers", "1", "--store", "memory") as cluster:
        url = cluster.wait_for_line(GREETING, timeout_s=START_S_MAX)[1]
        line = f"echo > {began}; sleep 1000"
        with running_rota("submit", "--shell", line, log_path=tmp_path / "submit.log", env={"ROTA_URL": url}) as submit:
            assert submit.wait_for_exit(timeout_s=START_S_MAX) == 0
        wait_until(began.exists, what="the task to run", timeout_s=START_S_MAX)
        processes = children_of(cluster)
        coordinator_of(cluster).kill()
        # Not after the seconds that workers are given to hand back what they have: nobody is there to take it.
        assert cluster.wait_for_exit(timeout_s=3.0) == 1
        assert "rota: the coordinator ended by signal 9" in cluster.output()
        wait_until(lambda: are_gone(processes), what="the end of all its processes")


def test_a_token_is_asked_for_and_on_no_command_line(tmp_path: Path) -> None:
    with up(tmp_path, "--port", "0", "--workers", "1", "--token", "s3cret-token") as cluster:
        url = cluster.wait_for_line(GREETING, timeout_s=START_S_MAX)[1]
        assert not any("s3cret-token" in " ".join(process.cmdline()) for process in children_of(cluster))
        with running_rota("nodes", log_path=tmp_path / "nodes.log", env={"ROTA_URL": url}) as nodes:
            assert nodes.wait_for_exit() == 1
            assert "token" in nodes.output()


@pytest.mark.parametrize(
    "option,sentence",
    [
        ("--overcommit=cpu=0", "overcommit: the factor of cpu must be 0.01 to 100, got 0"),
        ("--tags=ssd,!spot", "tags: '!spot' is not a tag"),
        ("--transport=grpc", "--transport grpc takes a port for gRPC: leave out --grpc-port off"),
    ],
)
def test_what_each_worker_would_refuse_is_refused_before_anything_starts(
    option: str, sentence: str, tmp_path: Path
) -> None:
    with up(tmp_path, "--port", "0", "--grpc-port", "off", "--workers", "2", option) as cluster:
        assert cluster.wait_for_exit() == 2
        assert sentence in cluster.output()
        assert "starting it again" not in cluster.output()
    assert not (tmp_path / ".rota").exists()


def test_its_workers_can_come_over_grpc(tmp_path: Path) -> None:
    options = ("--transport", "grpc", "--grpc-port", "0", "--token", "s3cret-token", "--log-level", "info")
    with up(tmp_path, "--port", "0", "--workers", "2", *options) as cluster:
        url = cluster.wait_for_line(GREETING, timeout_s=START_S_MAX)[1]
        env = {"ROTA_URL": url, "ROTA_TOKEN": "s3cret-token"}
        with running_rota("run", "echo", "hello", log_path=tmp_path / "run.log", env=env) as run:
            assert run.wait_for_exit(timeout_s=START_S_MAX) == 0
            assert run.output() == "hello\n"
        cluster.send_signal(signal.SIGINT)
        assert cluster.wait_for_exit(timeout_s=START_S_MAX) == 0
        assert cluster.output().count('"server":"grpc://127.0.0.1:') == 2
        assert "Traceback" not in cluster.output()


def test_a_taken_port_is_told_in_a_sentence(tmp_path: Path) -> None:
    port = str(free_port())
    with up(tmp_path, "--port", port, "--workers", "0") as first:
        first.wait_for_line(GREETING, timeout_s=START_S_MAX)
        second_log = tmp_path / "second.log"
        with running_rota("up", "--port", port, log_path=second_log, cwd=tmp_path) as second:
            assert second.wait_for_exit() == 2
            assert f"port {port} of 127.0.0.1 is taken" in second.output()


def test_run_outlives_the_coordinator(tmp_path: Path) -> None:
    port = str(free_port())
    env = {"ROTA_URL": f"http://127.0.0.1:{port}"}
    arguments = ["coordinator", "--port", port, "--state-dir", str(tmp_path / "state")]
    line = f"echo before; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; echo after; exit 9"
    with running_rota("worker", "--id", "w1", log_path=tmp_path / "worker.log", env=env):
        with running_rota(*arguments, log_path=tmp_path / "first.log") as first:
            first.wait_for_line("listening on", timeout_s=START_S_MAX)
            run = running_rota("run", "--shell", line, log_path=tmp_path / "run.log", env=env)
            run.wait_for_line("^before$", timeout_s=START_S_MAX)
            first.kill()
        with run, running_rota(*arguments, log_path=tmp_path / "second.log") as second:
            second.wait_for_line("listening on", timeout_s=START_S_MAX)
            (tmp_path / "go").touch()
            assert run.wait_for_exit(timeout_s=START_S_MAX) == 9
            said = run.output()
            assert [word for word in said.splitlines() if not word.startswith("rota: ")] == ["before", "after"]


def test_one_state_has_one_coordinator(tmp_path: Path) -> None:
    with up(tmp_path, "--port", "0", "--workers", "0") as first:
        first.wait_for_line(GREETING, timeout_s=START_S_MAX)
        arguments = ["up", "--port", "0", "--workers", "0", "--state-dir", str(tmp_path / "state")]
        with running_rota(*arguments, log_path=tmp_path / "second.log") as second:
            assert second.wait_for_exit() == 1
            assert "the coordinator ended with exit code 75" in second.output()

"""Tasks from submit to record through real processes: how they end, what they used, what they wrote, when they run."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psutil
import pytest

from rota.client.http import Json
from rota.wire.channel import Transport
from tests.support.channels import TRANSPORTS
from tests.support.real_cluster import Cluster, Gate, Witness, over_both
from tests.support.waiting import wait_until

ESCAPEE: Final = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        with open(sys.argv[1], "a") as pids:
            pids.write(f"{os.getpid()}\\n")
        time.sleep(3600)
    os._exit(0)
with open(sys.argv[1], "a") as pids:
    pids.write(f"{os.getpid()}\\n")
time.sleep(3600)
"""
"""Leaves a process behind that has another parent, another session and no ear for SIGTERM; so has it itself."""

STRANGE_VARIABLE: Final = "ROTA_TEST_SECRET_OF_THE_AGENT"


@pytest.fixture(scope="module", params=TRANSPORTS)
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    os.environ[STRANGE_VARIABLE] = "not for tasks"
    try:
        with Cluster(tmp_path_factory.mktemp("tasks"), transport=request.param) as running:
            running.start_coordinator()
            running.start_worker("w1", "--resources=cpu=8000,memory=2G", "--output-limit=16K")
            yield running
            assert "Traceback" not in running.coordinator.output()
    finally:
        del os.environ[STRANGE_VARIABLE]


def run(cluster: Cluster, **spec: object) -> Json:
    """Submit a task and return it as it ended."""
    return cluster.wait_for_end(cluster.client.submit(spec)["id"])


def output(cluster: Cluster, task: Json, **query: str | int) -> bytes:
    return b"".join(cluster.client.logs(task["id"], query))


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def escapee(pids: Path) -> list[str]:
    return [sys.executable, "-c", ESCAPEE, str(pids)]


def wait_for_escapees(pids: Path) -> list[psutil.Process]:
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2, what="the tree")
    return [psutil.Process(int(pid)) for pid in pids.read_text().split()]


def are_gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


# How they end


def test_how_a_task_ended_is_on_the_record(cluster: Cluster) -> None:
    done = run(cluster, command=["true"])
    assert (done["state"], done["cause"], done["exit_code"], done["signal"]) == ("completed", None, 0, None)
    failed = run(cluster, shell="exit 7")
    assert (failed["state"], failed["cause"], failed["exit_code"], failed["attempt"]) == ("failed", "exit", 7, 1)
    killed = run(cluster, shell="kill -SEGV $$")
    assert (killed["state"], killed["cause"], killed["exit_code"], killed["signal"]) == ("failed", "signal", None, 11)
    missing = run(cluster, command=["/no/such/program"])
    assert (missing["state"], missing["cause"]) == ("failed", "launch-error")
    assert "/no/such/program" in missing["message"]
    nowhere = run(cluster, command=["true"], cwd="/no/such/folder")
    assert (nowhere["cause"], "/no/such/folder" in nowhere["message"]) == ("launch-error", True)


def test_times_are_in_order_and_of_one_clock(cluster: Cluster) -> None:
    before = datetime.now(UTC)
    task = run(cluster, shell="sleep 0.2")
    created, started, ended = (moment(task[name]) for name in ("created_at", "started_at", "ended_at"))
    assert before.replace(microsecond=0) <= created <= started < ended <= datetime.now(UTC)
    assert 0.2 <= (ended - started).total_seconds() < 5.0


def test_processor_time_and_peak_memory_are_recorded(cluster: Cluster) -> None:
    work = "x = bytearray(64 << 20); import time; t = time.process_time()\nwhile time.process_time() - t < 0.3: pass"
    task = run(cluster, command=[sys.executable, "-c", work])
    assert 0.3 <= task["cpu_seconds"] < 3.0
    assert 64 <= task["peak_memory"] < 200
    assert run(cluster, command=["sleep", "0.2"])["peak_memory"] < 20, "of the task, never of the agent"


def test_over_its_memory_a_task_is_killed_as_oom(cluster: Cluster) -> None:
    hog = [sys.executable, "-c", "import time; x = bytearray(200 << 20); time.sleep(60)"]
    task = run(cluster, command=hog, resources={"memory": 64})
    assert (task["state"], task["cause"]) == ("failed", "oom")


def test_the_environment_is_the_tasks_own(cluster: Cluster, tmp_path: Path) -> None:
    task = run(cluster, shell="env; pwd; cat", env={"MINE": "ä b"}, cwd=str(tmp_path), stdin="to be read\n")
    said = output(cluster, task).decode()
    assert "MINE=ä b\n" in said
    assert f"ROTA_TASK_ID={task['id']}\n" in said
    assert "ROTA_ATTEMPT=1\n" in said
    assert f"\n{tmp_path}\nto be read\n" in said
    assert STRANGE_VARIABLE not in said
    assert "PYTHONUNBUFFERED" not in said, "which is the agent's"


# The end of trees


def test_a_cancelled_tree_is_gone_when_the_record_says_cancelled(cluster: Cluster, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    task = cluster.client.submit({"command": escapee(pids)})
    tree = wait_for_escapees(pids)
    cluster.wait_for_state(task["id"], "running")
    wished = cluster.client.cancel(task["id"])
    assert (wished["state"], wished["cancel_requested"]) == ("running", True)
    ended = cluster.wait_for_end(task["id"])
    assert (ended["state"], ended["cause"]) == ("cancelled", "cancelled")
    assert are_gone(tree)
    assert cluster.client.cancel(task["id"]) == ended, "a second time changes nothing"


def test_a_tree_over_its_time_is_gone_when_the_record_says_timeout(cluster: Cluster, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    task = cluster.client.submit({"command": escapee(pids), "timeout": 1.5})
    tree = wait_for_escapees(pids)
    ended = cluster.wait_for_end(task["id"], timeout_s=8.0)  # less than the usual grace: the coordinator's is meant
    assert (ended["state"], ended["cause"]) == ("failed", "timeout")
    assert are_gone(tree)


@over_both
def test_a_tree_dies_with_its_agent(tmp_path: Path, transport: Transport) -> None:
    pids = tmp_path / "pids"
    with Cluster(tmp_path, transport=transport) as cluster:
        cluster.start_coordinator()
        worker = cluster.start_worker("w1", "--resources=cpu=1000,memory=1G")
        cluster.client.submit({"command": escapee(pids)})
        tree = wait_for_escapees(pids)
        family = psutil.Process(worker.pid).children(recursive=True)
        worker.kill()
        wait_until(lambda: are_gone([*tree, *family]), what="the end of the whole tree", timeout_s=60.0)


def test_a_pending_task_is_cancelled_at_once_and_never_runs(cluster: Cluster, tmp_path: Path) -> None:
    witness = Witness(tmp_path / "witness")
    task = cluster.client.submit({"shell": witness.shell(), "delay": 0.5})
    assert task["reason"] == "start-time"
    assert cluster.client.cancel(task["id"])["state"] == "cancelled"
    later = run(cluster, shell="true", delay=0.7)
    assert later["state"] == "completed"
    assert not witness.lines()
    cluster.client.retry(task["id"])
    assert cluster.wait_for_end(task["id"])["state"] == "completed"
    assert witness.starts() == {task["id"]: 1}


# What they write


def test_of_too_much_output_the_first_and_the_last_part_are_kept(cluster: Cluster) -> None:
    task = run(cluster, shell="echo first; yes 0123456 | head -c 1000000; echo last; echo apart >&2")
    assert task["stdout_bytes"] == 1_000_011
    assert task["stderr_bytes"] == 6
    said = output(cluster, task, stream="stdout")
    assert said.startswith(b"first\n0123456\n")
    assert said.endswith(b"0123456\nlast\n")
    assert b"bytes of stdout were left out]" in said
    assert 8_000 < len(said) < 40_000
    assert output(cluster, task, stream="stderr") == b"apart\n"


def test_logs_follow_while_the_task_runs(cluster: Cluster, tmp_path: Path) -> None:
    with Gate(tmp_path / "gate") as gate:
        task = cluster.client.submit({"shell": f"echo before; {gate.shell}; echo after"})
        follower = cluster.client.logs(task["id"], {}, follow=True)
        assert next(follower) == b"before\n"
        assert cluster.client.task(task["id"])["state"] == "running"
        gate.open()
        assert b"".join(follower) == b"after\n"
    assert output(cluster, task) == b"before\nafter\n"


def test_output_that_is_no_text_comes_as_it_was_written(cluster: Cluster) -> None:
    task = run(cluster, shell=r"printf '\377\000\033[31m'")
    assert output(cluster, task) == b"\xff\0\x1b[31m"


def test_each_attempt_keeps_its_own_output(cluster: Cluster) -> None:
    task = run(cluster, shell='echo "attempt $ROTA_ATTEMPT"; exit $((2 - ROTA_ATTEMPT))', retries=1, backoff=0.05)
    assert task["state"] == "completed"
    assert output(cluster, task) == b"attempt 2\n"
    assert output(cluster, task, attempt=1) == b"attempt 1\n"


# When they run


def test_a_task_that_fails_is_tried_again_after_growing_pauses(cluster: Cluster) -> None:
    task = run(cluster, shell='test "$ROTA_ATTEMPT" = 3', retries=5, backoff={"base": 0.2, "factor": 2.0, "max": 1.0})
    assert (task["state"], task["attempt"], task["retries_used"]) == ("completed", 3, 2)
    first, second, third = cluster.client.attempts(task["id"])
    assert [first["cause"], second["cause"], third["cause"]] == ["exit", "exit", None]
    assert 0.05 <= (moment(second["queued_at"]) - moment(first["ended_at"])).total_seconds() < 2.0


def test_a_task_out_of_retries_stays_failed_until_a_person_retries_it(cluster: Cluster, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    task = run(cluster, shell=f"test -e {shlex.quote(str(mended))}", retries=1, backoff=0.05)
    assert (task["state"], task["cause"], task["attempt"]) == ("failed", "exit", 2)
    mended.touch()
    cluster.client.retry(task["id"])
    again = cluster.wait_for_end(task["id"])
    assert (again["state"], again["attempt"], again["retries_used"]) == ("completed", 3, 0)


def test_a_task_does_not_start_before_its_time(cluster: Cluster) -> None:
    start_at = datetime.fromtimestamp(time.time() + 0.6, UTC)
    task = cluster.client.submit({"shell": "true", "start_at": start_at.isoformat()})
    assert (task["state"], task["reason"]) == ("pending", "start-time")
    ended = cluster.wait_for_end(task["id"])
    # The record has milliseconds.
    assert moment(ended["started_at"]).timestamp() >= start_at.timestamp() - 0.001


def test_past_its_deadline_a_task_is_not_started_and_what_runs_is_stopped(cluster: Cluster) -> None:
    waiting = run(cluster, shell="true", delay=3600, deadline=0.3)
    assert (waiting["state"], waiting["cause"], waiting["attempt"]) == ("failed", "expired", 0)
    running = run(cluster, shell="sleep 3600", deadline=1.5, retries=3)
    assert (running["state"], running["cause"], running["attempt"]) == ("failed", "expired", 1)


def test_higher_priority_goes_first(cluster: Cluster, tmp_path: Path) -> None:
    witness = Witness(tmp_path / "witness")
    with Gate(tmp_path / "gate") as gate:
        whole = {"cpu": 8_000}
        first = cluster.client.submit({"shell": gate.shell, "resources": whole})
        cluster.wait_for_state(first["id"], "running")
        ids = {
            priority: cluster.client.submit(
                {"name": "prioritised", "shell": witness.shell(), "resources": whole, "priority": priority}
            )["id"]
            for priority in ("low", "critical", "normal", "high")
        }
        gate.open()
        for task_id in ids.values():
            assert cluster.wait_for_end(task_id)["state"] == "completed"
    began = [line.task for line in witness.lines() if line.word == "start"]
    assert began == [ids[priority] for priority in ("critical", "high", "normal", "low")]


def test_a_drained_worker_gets_nothing_until_it_is_resumed(cluster: Cluster) -> None:
    assert cluster.client.drain("w1")["state"] == "draining"
    try:
        task = cluster.client.submit({"command": ["true"]})
        waiting = cluster.client.wait(task["id"], timeout_s=0.3)
        assert (waiting["state"], waiting["reason"]) == ("pending", "no-workers")
    finally:
        assert cluster.client.resume("w1")["state"] == "online"
    assert cluster.wait_for_end(task["id"])["state"] == "completed"


@over_both
def test_no_more_runs_at_once_than_the_worker_may(tmp_path: Path, transport: Transport) -> None:
    witness = Witness(tmp_path / "witness")
    with Cluster(tmp_path, transport=transport) as cluster:
        cluster.start_coordinator()
        cluster.start_worker("w1", "--max-tasks=3")
        for _ in range(12):
            cluster.client.submit({"name": "counted", "shell": witness.shell("sleep 0.05")})
        cluster.wait_for_all(12, timeout_s=60.0)
    running = most = 0
    for line in witness.lines():
        running += 1 if line.word == "start" else -1
        most = max(most, running)
    assert most == 3


def test_events_tell_of_a_task_in_order_and_of_each_change_once(cluster: Cluster) -> None:
    events = cluster.client.events()
    task = cluster.client.submit({"shell": "sleep 0.3"})
    seen = []
    for event in events:
        if event["task"] == task["id"]:
            seen.append(event["type"])
            if event["type"] == "task.completed":
                break
    assert seen[0] == "task.pending" or seen[0] == "task.assigned"
    assert seen[-2:] == ["task.running", "task.completed"]
    assert len(seen) == len(set(seen))

"""Clusters that stop, restart, refuse and die, as the one who started them sees it."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.commands import Rota, running_cluster
from tests.support.network import free_port
from tests.support.waiting import wait_until

TOKEN = "s3cret-token"


def task(rota: Rota, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(rota.ok("show", "--json", task_id))
    return found


def wait_for_state(rota: Rota, task_id: str, state: str) -> None:
    wait_until(lambda: task(rota, task_id)["state"] == state, what=f"{task_id} to be {state}")


def test_a_stop_hands_back_what_runs_and_the_next_start_goes_on(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with running_cluster(tmp_path) as (rota, up):
        ended = rota.ok("submit", "--wait", "--shell", "seq 3000").strip()
        long = rota.ok("submit", "--shell", f"while [ ! -e {go} ]; do sleep 0.05; done").strip()
        waiting = rota.ok("submit", "--delay", "1h", "--", "true").strip()
        wait_for_state(rota, long, "running")
        up.send_signal(signal.SIGINT)
        assert up.wait_for_exit(timeout_s=60.0) == 0
        assert "stopping; Ctrl-C again to stop at once" in up.output()
    with running_cluster(tmp_path) as (rota, _):
        assert rota.ok("logs", ended).endswith("\n3000\n")
        wait_for_state(rota, long, "running")
        go.touch()
        wait_for_state(rota, long, "completed")
        brought_back = task(rota, long)
        assert (brought_back["attempt"], brought_back["losses_used"], brought_back["retries_used"]) == (2, 0, 0)
        assert brought_back["attempts"][0]["cause"] in {"preempted", "returned"}
        assert task(rota, waiting)["reason"] == "start-time"


def test_a_short_task_may_finish_while_the_cluster_stops(tmp_path: Path) -> None:
    with running_cluster(tmp_path) as (rota, up):
        short = rota.ok("submit", "--shell", f"touch {tmp_path}/on; sleep 1").strip()
        wait_until((tmp_path / "on").exists, what="the task to run")
        up.send_signal(signal.SIGTERM)
        assert up.wait_for_exit(timeout_s=60.0) == 0
    with running_cluster(tmp_path, "--workers", "0") as (rota, _):
        assert (task(rota, short)["state"], task(rota, short)["attempt"]) == ("completed", 1)


def test_a_dead_coordinator_is_one_line_for_every_command(tmp_path: Path) -> None:
    rota = Rota(f"http://127.0.0.1:{free_port()}", tmp_path)
    line = f"rota: no coordinator answers at {rota.url}: start one with 'rota up' or set ROTA_URL\n"
    for arguments in (["ps"], ["run", "--", "true"], ["nodes"]):
        result = rota.run(*arguments)
        assert (result.returncode, result.stdout, result.stderr) == (125, "", line)


def test_a_killed_worker_costs_a_loss_and_its_task_runs_again(tmp_path: Path) -> None:
    quick = ("--heartbeat", "200ms", "--suspicious-after", "600ms", "--offline-after", "1s", "--grace", "1s")
    with running_cluster(tmp_path, "--workers", "2", "--resources", "cpu=2000", *quick) as (rota, up):
        go = tmp_path / "go"
        task_id = rota.ok("submit", "--shell", f"while [ ! -e {go} ]; do sleep 0.05; done").strip()
        wait_for_state(rota, task_id, "running")
        victim = task(rota, task_id)["worker"]
        node = next(node for node in json.loads(rota.ok("nodes", "--json")) if node["id"] == victim)
        os.kill(node["pid"], signal.SIGKILL)
        up.wait_for_line(f"rota: worker {victim} ended by signal 9; starting it again")
        wait_until(lambda: task(rota, task_id)["attempt"] == 2, what="a second attempt")
        go.touch()
        wait_for_state(rota, task_id, "completed")
        assert task(rota, task_id)["losses_used"] == 1
        assert re.search(rf"^1\t{victim}\t.*\tworker-lost", rota.ok("show", task_id), re.M)


def test_two_machines_started_by_hand_share_a_token(tmp_path: Path) -> None:
    port = free_port()
    rota = Rota(f"http://127.0.0.1:{port}", tmp_path, env={"ROTA_TOKEN": TOKEN})
    coordinator = ["coordinator", "--host", "0.0.0.0", "--port", str(port), "--state-dir", str(tmp_path / "state")]
    with (
        rota.start(*coordinator, name="coordinator") as running,
        rota.start("worker", "--id", "m1", "--tags", "ssd", "--addr", "10.0.0.1", name="m1"),
        rota.start("worker", "--id", "m2", "--max-tasks", "3", "--resources", "disk=7", name="m2") as m2,
    ):
        running.wait_for_line("listening on")
        wait_until(lambda: rota.run("nodes").stdout.count("online") == 2, what="two workers")
        first, second = (line.split("\t") for line in rota.ok("nodes").splitlines()[1:])
        tags = [tag for tag in first[-4].split(",") if not tag.startswith("go")]  # where there is a toolchain
        assert (first[0], tags, first[-3]) == ("m1", ["ssd"], "10.0.0.1")
        assert second[6] == "disk:0/7"
        where = "echo $ROTA_WORKER ${ROTA_TOKEN-no token}"
        assert rota.ok("run", "--tag", "ssd", "--shell", where) == "m1 no token\n"
        assert rota.ok("run", "-r", "disk=7", "--shell", where) == "m2 no token\n"
        m2.send_signal(signal.SIGTERM)
        assert m2.wait_for_exit() == 0
        refuse_strangers(tmp_path, rota.url)
        running.send_signal(signal.SIGTERM)
        assert running.wait_for_exit() == 0


def refuse_strangers(folder: Path, url: str) -> None:
    for token, words in (("", "a token is asked for"), ("wrong", "the token is wrong")):
        stranger = Rota(url, folder, env={"ROTA_TOKEN": token})
        result = stranger.run("ps")
        assert (result.returncode, result.stdout) == (1, "")
        assert words in result.stderr
        worker = stranger.run("worker", "--id", "stranger", "--log-level", "error")
        assert worker.returncode == 69
        assert worker.stderr.count("\n") == 1
        assert words in worker.stderr


@pytest.mark.parametrize(
    "arguments,words",
    [
        (["up", "--host", "0.0.0.0", "--port", "0"], "set a token (--token, --token-file or ROTA_TOKEN)"),
        (["coordinator", "--host", "0.0.0.0", "--port", "0"], "set a token (--token, --token-file or ROTA_TOKEN)"),
        (["up", "--port", "99999"], "port must be 0 to 65535"),
        (["up", "--heartbeat", "10s", "--suspicious-after", "1s"], "--suspicious-after must be at least twice"),
        (["worker", "--resources", "cpu=much"], "must be a whole number"),
        (["submit", "--memory", "5X", "--", "true"], "'5X' is not a size"),
        (["ps", "--stat", "failed"], "Did you mean '--state'?"),
        (["pss"], "Did you mean 'ps'?"),
        (["run"], "there is nothing to run"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_explained(tmp_path: Path, arguments: list[str], words: str) -> None:
    result = Rota("http://127.0.0.1:1", tmp_path).run(*arguments)
    assert result.returncode == 2
    assert words in " ".join(result.stderr.split())


def test_a_second_coordinator_is_told_who_holds_the_state(tmp_path: Path) -> None:
    with running_cluster(tmp_path, "--workers", "0") as (rota, up):
        (holder,) = psutil.Process(up.pid).children()
        result = rota.run("coordinator", "--port", "0", "--state-dir", str(tmp_path / "state"))
        assert result.returncode == 75
        assert re.search(rf"is held by \S+ pid {holder.pid}: stop it first", result.stderr)

"""A user's day with one cluster: every command that looks at tasks and workers or changes them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.commands import BIN, Rota, running_cluster
from tests.support.terminal import Terminal
from tests.support.waiting import wait_until

pytestmark = pytest.mark.xdist_group("e2e-commands")


@pytest.fixture(scope="module")
def rota(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rota]:
    options = ("--workers", "2", "--resources", "cpu=4000,memory=2G", "--tags", "ssd")
    with running_cluster(tmp_path_factory.mktemp("cluster"), *options) as (rota, _):
        yield rota


def submitted(rota: Rota, *arguments: str) -> str:
    return rota.ok("submit", *arguments).strip()


def state_of(rota: Rota, task_id: str) -> str:
    return str(json.loads(rota.ok("show", "--json", task_id))["state"])


def wait_for_state(rota: Rota, task_id: str, state: str) -> None:
    wait_until(lambda: state_of(rota, task_id) == state, what=f"{task_id} to be {state}")


@pytest.mark.parametrize(
    "arguments,code,stdout",
    [
        (["--", "echo", "two  spaces"], 0, "two  spaces\n"),
        (["--shell", "echo $A; exit 7", "-e", "A=b"], 7, "b\n"),
        (["--stdin", "in", "--", "cat"], 0, "in"),
        (["--cwd", "/usr", "--", "pwd"], 0, "/usr\n"),
        (["--tag", "ssd", "--cpu", "2", "--priority", "high", "--", "true"], 0, ""),
        (["--shell", "kill -TERM $$"], 143, ""),
        (["--timeout", "200ms", "--", "sleep", "60"], 124, ""),
        (["--", "no-such-program"], 127, ""),
        (["--retries", "1", "--backoff", "10ms", "--shell", 'test "$ROTA_ATTEMPT" = 2'], 0, ""),
    ],
)
def test_run_is_as_if_the_command_ran_here(rota: Rota, arguments: list[str], code: int, stdout: str) -> None:
    result = rota.run("run", *arguments)
    assert (result.returncode, result.stdout) == (code, stdout), result.stderr


def test_run_keeps_stdout_and_stderr_apart(rota: Rota) -> None:
    result = rota.run("run", "--shell", "echo out; echo err >&2")
    assert (result.stdout, result.stderr) == ("out\n", "err\n")


def test_out_of_memory_has_its_own_exit_code(rota: Rota) -> None:
    # Filled, not only reserved: pages that nobody wrote to are not memory.
    result = rota.run(
        "run", "--memory", "40M", "--", "python3", "-c", "import time; x = b'x' * (200 << 20); time.sleep(60)"
    )
    assert result.returncode == 137
    assert "its limit is 40 MiB" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_in_run_cancels_the_task(rota: Rota, number: signal.Signals) -> None:
    with rota.start("run", "--name", f"stopped-{number}", "--shell", "echo on; sleep 600", name=f"run-{number}") as run:
        run.wait_for_line("^on$")
        run.send_signal(number)
        assert run.wait_for_exit() == 130
        assert "cancelled" in run.output()
    assert rota.ok("ps", "--name", f"stopped-{number}").splitlines()[1].split("\t")[1] == "cancelled"


@pytest.mark.parametrize("command", ["ps --all", "run -- yes", "ps --all --json"])
def test_a_reader_that_leaves_early_is_no_error(rota: Rota, command: str) -> None:
    # Several lines of output, so that there is something to write after the reader has left.
    submitted(rota, "--", "true")
    line = f"{BIN}/rota {command} | head -n 1; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, env=rota.env, timeout=60, check=False, cwd=rota.folder
    )
    assert result.stdout.count("\n") == 1
    assert result.returncode in {0, 141}, result.stderr
    assert "Traceback" not in result.stderr


def test_what_failed_is_found_understood_and_retried(rota: Rota) -> None:
    marker = rota.folder / "mended"
    task_id = submitted(rota, "--name", "fragile", "-l", "team=a", "--shell", f"test -e {marker} || exit 4")
    wait_for_state(rota, task_id, "failed")
    row = rota.ok("ps", "--state", "failed", "-l", "team=a", "--since", "1h").splitlines()[1].split("\t")
    assert (row[0], row[2], row[-1]) == (task_id, "fragile", "exit 4")
    assert "state:      failed (exit 4)" in rota.ok("show", task_id)
    marker.touch()
    rota.ok("retry", "--state", "failed", "-l", "team=a")
    wait_for_state(rota, task_id, "completed")
    assert [attempt["number"] for attempt in json.loads(rota.ok("show", "--json", task_id))["attempts"]] == [1, 2]


def test_logs_follow_a_task_to_its_end(rota: Rota) -> None:
    go = rota.folder / "go"
    task_id = submitted(rota, "--shell", f"seq 20000; while [ ! -e {go} ]; do sleep 0.02; done; echo end; echo e >&2")
    with rota.start("logs", "-f", task_id, name="follow") as logs:
        logs.wait_for_line("^20000$")
        go.touch()
        assert logs.wait_for_exit() == 0
        assert logs.output().count("\n") == 20_002
    assert rota.ok("logs", "--stream", "stderr", task_id) == "e\n"
    assert rota.ok("logs", "--stream", "stdout", task_id).endswith("20000\nend\n")


def test_many_tasks_from_a_file_are_waited_for(rota: Rota) -> None:
    lines = "\n".join(json.dumps({"command": ["echo", str(number)]}) for number in range(30))
    result = rota.run("submit", "--from", "-", "--label", "job=many", "--wait", stdin=lines)
    assert (result.returncode, result.stderr) == (0, "rota: 30 completed\n")
    assert len(result.stdout.split()) == 30
    listed = json.loads(rota.ok("ps", "--all", "--label", "job=many", "--json"))
    assert [task["id"] for task in reversed(listed)] == result.stdout.split()


def test_a_typo_in_a_file_is_named_with_its_place(rota: Rota) -> None:
    result = rota.run("submit", "--from", "-", stdin='{"shell": "true"}\n{"shell": "true", "retires": 1}\n')
    assert result.returncode == 1
    assert result.stderr == "rota: line 2: retires: there is no such field; did you mean `retries`?\n"


@pytest.mark.parametrize(
    "arguments,reason,words",
    [
        (["--cpu", "64", "--", "true"], "impossible", "the largest worker"),
        (["--tag", "tape", "--", "true"], "tags", "no worker has the tag tape"),
        (["--image", "busybox"], "tags", "kind container"),
        (["--delay", "1h", "--", "true"], "start-time", "start time"),
    ],
)
def test_what_waits_says_why_until_it_is_cancelled(rota: Rota, arguments: list[str], reason: str, words: str) -> None:
    task_id = submitted(rota, *arguments)
    shown = rota.ok("show", task_id)
    assert re.search(rf"^state: +pending: {reason} \(.*{words}.*\)$", shown, re.M), shown
    assert words in rota.ok("ps", "-n", "1")
    rota.ok("cancel", task_id)
    wait_for_state(rota, task_id, "cancelled")


def test_a_drained_cluster_finishes_and_takes_nothing_new(rota: Rota) -> None:
    go = rota.folder / "drained"
    running = submitted(rota, "--shell", f"while [ ! -e {go} ]; do sleep 0.02; done")
    wait_for_state(rota, running, "running")
    assert rota.ok("drain", "w1", "w2") == "w1 is draining\nw2 is draining\n"
    waiting = submitted(rota, "--", "true")
    assert "2 draining" in rota.ok("show", waiting)
    assert [line.split("\t")[1] for line in rota.ok("nodes").splitlines()[1:]] == ["draining"] * 2
    go.touch()
    assert "is empty" in rota.run("drain", "w1", "w2", "--wait").stderr
    wait_for_state(rota, running, "completed")
    assert state_of(rota, waiting) == "pending"
    rota.ok("resume", "w1", "w2")
    wait_for_state(rota, waiting, "completed")


def test_events_tell_of_every_change(rota: Rota) -> None:
    with rota.start("events", "--json", name="events") as events:
        # Nothing says that it listens: the task that it hears of does.
        def heard() -> list[dict[str, object]]:
            rota.ok("run", "--id", f"heard-{os.urandom(4).hex()}", "--", "true")
            return [json.loads(line) for line in events.output().splitlines() if "heard-" in line]

        first = wait_until(heard, what="an event of a task")[0]
        assert {"id", "type", "time", "task"} <= first.keys()
        assert first["type"] != "task.pending" or "attempt" not in first  # there is none yet
        events.wait_for_line(rf'"type": "task.completed".*"task": "{first["task"]}"')
        events.send_signal(signal.SIGINT)
        assert events.wait_for_exit() == 130


def test_stats_count_what_is_there(rota: Rota) -> None:
    submitted(rota, "--wait", "--", "true")
    stats = json.loads(rota.ok("stats", "--json"))
    assert stats["tasks"]["completed"] >= 1
    assert stats["capacity"] == {"cpu": 4000, "memory": 2048}
    assert re.search(r"^reserved: cpu \d/4, memory 0 B/2.0 GiB$", rota.ok("stats"), re.M)


def test_a_terminal_keeps_ids_and_states_however_narrow_it_is(rota: Rota) -> None:
    task_id = submitted(rota, "--wait", "--name", "a name that is far longer than the terminal is wide", "--", "true")
    shown = subprocess.run(
        ["script", "-qec", f"{BIN}/rota ps -n 1", "/dev/null"],
        capture_output=True,
        text=True,
        env={**rota.env, "COLUMNS": "40"},
        timeout=60,
        check=True,
    ).stdout
    assert task_id in shown
    assert "completed" in shown
    assert "a name" in shown
    assert "CREATED" not in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "t9999"],
        ["logs", "t9999"],
        ["cancel", "t9999"],
        ["drain", "w9"],
        ["queues", "pause", "bacth"],
        ["queues", "resume", "bacth"],
    ],
)
def test_what_is_not_there_is_one_line(rota: Rota, arguments: list[str]) -> None:
    result = rota.run(*arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(r"rota: there is no (task|node|queue) .*\n", result.stderr)


def test_an_own_id_makes_one_task(rota: Rota) -> None:
    assert submitted(rota, "--id", "mine", "--", "true") == submitted(rota, "--id", "mine", "--", "true") == "mine"
    result = rota.run("submit", "--id", "mine", "--", "false")
    assert result.returncode == 1
    assert "id 'mine' is taken by a task with another spec" in result.stderr


def test_reserve_says_where_it_is_in_force_and_what_is_missing(rota: Rota) -> None:
    def added(*options: str) -> str:
        said = rota.ok("reserve", "add", "demo", "--for", "1h", *options)
        rota.ok("reserve", "end", "demo")
        return said.partition("=demo, ")[2]

    assert added("--resources", "cpu=1000") == "on 2 workers\n"
    assert re.fullmatch(r"on w[12]\n", added("--resources", "cpu=1000", "--workers", "1"))
    assert added("--resources", "cpu=1000", "--workers", "9").startswith("on 2 of 9 workers: no more that are online")
    assert added("--resources", "cpu=64000").startswith("on no worker yet: none that is online offers so much")
    assert added("--resources", "cpu=1000", "--start-at", "2090-01-31T12:00:00Z").startswith("begins in ")


def test_a_queue_that_is_removed_has_the_defaults_again(rota: Rota) -> None:
    rota.ok("queues", "set", "once", "--weight", "3")
    assert rota.ok("queues", "remove", "once") == "queue once has the defaults again\n"


def test_top_shows_what_comes_until_q(rota: Rota) -> None:
    env = {**os.environ, **rota.env, "ROTA_URL": rota.url}
    with Terminal(
        ["env", "TERM=xterm", str(BIN / "rota"), "top", "--every", "200ms"], env=env, cwd=rota.folder
    ) as screen:
        screen.wait_for("workers: 2")
        waiting = submitted(rota, "--tag", "nowhere", "--", "true")
        screen.wait_for(f"tags +{waiting} +no worker has the tag nowhere")
        rota.ok("cancel", waiting)
        screen.type("q")
        assert screen.exit_code() == 0

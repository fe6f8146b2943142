"""``rota run`` and ``rota events`` as real processes: live output, exit codes, Ctrl-C, readers that leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO

import pytest

from rota.cli.exits import exit_code_of_task
from rota.coordinator.service import Event
from rota.core.model import Cause, TaskId, TaskState
from tests.support.coordinators import LiveCoordinator, live_coordinator
from tests.support.waiting import wait_until

TASK = TaskId("t1")
EXIT_S_MAX = 10.0


@pytest.fixture
def coordinator() -> Iterator[LiveCoordinator]:
    with live_coordinator() as running:
        yield running


@contextmanager
def running(coordinator: LiveCoordinator, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start ``rota`` with pipes; it is gone when the block ends."""
    with subprocess.Popen(
        [sys.executable, "-m", "rota", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "ROTA_URL": coordinator.url},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def started(coordinator: LiveCoordinator) -> None:
    """Wait until the task is there, and start it."""
    wait_until(lambda: TASK in coordinator.service._records, what="the task")
    coordinator.do(partial(coordinator.service.start, TASK))


def read(pipe: IO[bytes] | None, count: int) -> bytes:
    assert pipe is not None
    return os.read(pipe.fileno(), count)


def test_output_is_live_and_the_exit_code_is_the_tasks(coordinator: LiveCoordinator) -> None:
    with running(coordinator, "run", "--", "true") as process:
        started(coordinator)
        coordinator.do(partial(coordinator.service.write, TASK, b"out\xff"))
        assert read(process.stdout, 100) == b"out\xff"
        coordinator.do(partial(coordinator.service.write, TASK, b"err", stream="stderr"))
        assert read(process.stderr, 100) == b"err"
        coordinator.do(partial(coordinator.service.write, TASK, b"last"))
        coordinator.do(partial(coordinator.service.end, TASK, state=TaskState.FAILED, exit_code=42))
        assert process.communicate(timeout=EXIT_S_MAX) == (b"last", b"")
        assert process.returncode == 42


def test_a_task_that_does_not_start_says_why(coordinator: LiveCoordinator) -> None:
    with running(coordinator, "run", "true") as process:
        assert read(process.stderr, 100) == b"rota: t1 waits: no worker is connected\n"


def test_the_first_ctrl_c_cancels_and_waits_for_the_end(coordinator: LiveCoordinator) -> None:
    with running(coordinator, "run", "true") as process:
        started(coordinator)
        wait_until(lambda: coordinator.service.open_logs == 2, what="both streams to be followed")
        process.send_signal(signal.SIGINT)
        assert b"cancelling t1" in read(process.stderr, 100)
        assert coordinator.service._records[TASK].progress.wish is Cause.CANCELLED
        end_as_cancelled(coordinator)
        assert process.wait(EXIT_S_MAX) == 130


def test_the_second_ctrl_c_leaves_at_once_and_says_how_to_look(coordinator: LiveCoordinator) -> None:
    with running(coordinator, "run", "true") as process:
        started(coordinator)
        wait_until(lambda: coordinator.service.open_logs == 2, what="both streams to be followed")
        process.send_signal(signal.SIGTERM)
        assert b"cancelling t1" in read(process.stderr, 100)
        process.send_signal(signal.SIGINT)
        assert process.wait(EXIT_S_MAX) == 130
        assert b"rota show t1" in read(process.stderr, 100)


def end_as_cancelled(coordinator: LiveCoordinator) -> None:
    def end() -> None:
        coordinator.service._records[TASK].progress.cause = Cause.CANCELLED
        coordinator.service.end(TASK, state=TaskState.CANCELLED)
        coordinator.service._records[TASK].progress.cause = Cause.CANCELLED

    coordinator.do(end)


def test_a_reader_that_leaves_cancels_the_task(coordinator: LiveCoordinator) -> None:
    with running(coordinator, "run", "yes") as process:
        started(coordinator)
        coordinator.do(partial(coordinator.service.write, TASK, b"y\n"))
        assert read(process.stdout, 100) == b"y\n"
        assert process.stdout is not None
        process.stdout.close()
        coordinator.do(partial(coordinator.service.write, TASK, b"y\n"))
        assert process.wait(EXIT_S_MAX) == 141
        assert coordinator.service._records[TASK].progress.wish is Cause.CANCELLED


def test_refusals_are_not_mistaken_for_failures_of_the_command(coordinator: LiveCoordinator) -> None:
    with running(coordinator, "run", "--cwd", "here", "true") as process:
        _, told = process.communicate(timeout=EXIT_S_MAX)
        assert process.returncode == 125
        assert told == b"rota: --cwd: must be an absolute path on the worker\n"


@pytest.mark.parametrize(
    "state,cause,exit_code,number,code",
    [
        ("completed", None, 0, None, 0),
        ("failed", "exit", 3, None, 3),
        ("failed", "error", None, None, 1),
        ("failed", "signal", None, 9, 137),
        ("failed", "timeout", None, 15, 124),
        ("failed", "expired", None, None, 124),
        ("failed", "oom", None, 9, 137),
        ("failed", "launch-error", None, None, 127),
        ("failed", "worker-lost", None, None, 125),
        ("failed", "agent-error", None, None, 125),
        ("failed", "impossible", None, None, 125),
        ("failed", "something-new", None, None, 125),
        ("cancelled", "cancelled", None, 15, 130),
        ("cancelled", None, None, None, 130),
    ],
)
def test_exit_codes_follow_the_cause(state: str, cause: str | None, exit_code: int, number: int, code: int) -> None:
    assert exit_code_of_task(state=state, cause=cause, exit_code=exit_code, signal=number) == code


def test_ps_survives_a_reader_that_leaves(coordinator: LiveCoordinator) -> None:
    submit_many(coordinator, 3000)
    with running(coordinator, "ps", "--all") as process:
        assert process.stdout is not None
        assert read(process.stdout, 2) == b"ID"
        process.stdout.close()
        assert process.wait(EXIT_S_MAX) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""


def submit_many(coordinator: LiveCoordinator, count: int) -> None:
    from rota.client.http import HttpClient  # noqa: PLC0415 - what is tested starts without it

    with HttpClient(coordinator.url) as client:
        client.submit_many(json.dumps([{"shell": "x" * 100}] * count).encode())


def test_events_are_told_as_they_come(coordinator: LiveCoordinator) -> None:
    with running(coordinator, "events", "--json") as process:
        wait_until(lambda: coordinator.service.open_events == 1, what="the stream")
        coordinator.do(partial(coordinator.service.publish, Event("7.0", "task.failed", 0.0, task="t\x1b", attempt=1)))
        event = json.loads(read(process.stdout, 1000))
        assert (event["id"], event["type"], event["task"]) == ("7.0", "task.failed", "t\x1b")
        process.send_signal(signal.SIGINT)
        assert process.wait(EXIT_S_MAX) == 130


def test_events_for_people_are_a_line_without_control_characters(coordinator: LiveCoordinator) -> None:
    with running(coordinator, "events") as process:
        wait_until(lambda: coordinator.service.open_events == 1, what="the stream")
        event = Event("7.0", "task.failed", 0.0, task="t1", node="w1", attempt=2, cause="o\x1bm")
        coordinator.do(partial(coordinator.service.publish, event))
        line = read(process.stdout, 1000).decode()
        assert line.split(maxsplit=1)[1] == "t1 failed attempt 2 on w1 (o\\x1bm)\n"

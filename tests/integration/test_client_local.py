"""A cluster of a program's own: it is up with the client, and gone with it, however the program ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest

import rota
from rota import AsyncClient, Client, NoCoordinator
from rota.client.http import HttpClient
from tests.support.waiting import wait_until

SOON_S = 30.0
OPTIONS = ("--resources=cpu=2000,memory=1024",)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go: to see that none is left."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def processes_in(folder: Path) -> list[psutil.Process]:
    """The processes of the cluster whose state is in a folder: its coordinator has it on its command line."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(folder) in word for word in process.info["cmdline"] or ())
    ]


def test_cluster_comes_and_goes_with_its_client(own_folder: Path) -> None:
    with Client.local(workers=2, options=OPTIONS) as client:
        with HttpClient(client.url) as rest:
            assert len(rest.nodes()) == 2
        assert client.submit(sum, [1, 2, 3]).result(SOON_S) == 6
        large = client.submit(bytes, 300_000)
    assert len(large.result(0)) == 300_000  # though its blob is gone with the cluster
    assert list(own_folder.iterdir()) == []
    assert processes_in(own_folder) == []
    client.shutdown()


@pytest.mark.parametrize(
    "workers,options,sentence",
    [
        (0, (), "workers must be at least 1, got 0"),
        (1.5, (), "workers must be a whole number, got 1.5"),
        ("two", (), "workers must be a whole number, got 'two'"),
        (1, "--tags ssd", "options must be a list of texts"),
    ],
)
def test_cluster_that_could_run_nothing_is_refused(workers: Any, options: Any, sentence: str, own_folder: Path) -> None:
    with pytest.raises((TypeError, ValueError), match=sentence):
        Client.local(workers=workers, options=options)
    assert list(own_folder.iterdir()) == []


@pytest.mark.parametrize("make", [Client, AsyncClient])
@pytest.mark.parametrize(
    "arguments,sentence",
    [
        ({"url": 8080}, "url must be a text such as 'http://127.0.0.1:8080', got 8080"),
        ({"url": "http://127.0.0.1:1", "job": 3}, "the name of a job must be a text, got 3"),
    ],
)
def test_client_of_no_sense_is_refused_at_once(make: Any, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence):
        make(**arguments)


def test_cluster_dies_with_a_program_that_is_killed(own_folder: Path) -> None:
    script = (
        "import sys, rota\n"
        f"client = rota.Client.local(1, options={list(OPTIONS)!r})\n"
        "print(client.submit(abs, -1).result(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ)
    )
    assert program.stdout is not None
    assert program.stdin is not None
    try:
        assert program.stdout.readline() == b"1\n"
        assert processes_in(own_folder)
    finally:
        program.send_signal(signal.SIGKILL)
        program.wait(SOON_S)
        program.stdout.close()
        program.stdin.close()
    wait_until(lambda: not processes_in(own_folder), what="the cluster to be gone", timeout_s=SOON_S)


def test_cluster_ends_with_a_program_that_does_not_close_its_client(own_folder: Path) -> None:
    script = f"import rota; print(rota.Client.local(1, options={list(OPTIONS)!r}).submit(abs, -1).result())"
    done = subprocess.run(
        [sys.executable, "-c", script], env=dict(os.environ), capture_output=True, timeout=SOON_S, check=True
    )
    assert (done.stdout, done.stderr) == (b"1\n", b"")
    wait_until(lambda: not processes_in(own_folder), what="the cluster to be gone", timeout_s=SOON_S)
    wait_until(lambda: list(own_folder.iterdir()) == [], what="its state to be removed")


def test_cluster_that_does_not_come_up_says_why(own_folder: Path) -> None:
    with pytest.raises(NoCoordinator, match="--nonsense"):
        Client.local(1, options=["--nonsense"])
    assert list(own_folder.iterdir()) == []


def test_coordinator_that_is_killed_costs_nothing(own_folder: Path) -> None:
    with Client.local(workers=1, options=OPTIONS) as client:
        future = client.submit(rota.task(delay=2)(abs), -1)
        future.task_id(SOON_S)
        (coordinator,) = (one for one in processes_in(own_folder) if "coordinator" in one.cmdline())
        coordinator.kill()
        assert future.result(SOON_S) == 1


def test_cluster_that_dies_is_not_waited_for(own_folder: Path) -> None:
    with Client.local(workers=1, options=OPTIONS) as client:
        future = client.submit(rota.task(cpu=64)(abs), -1)
        future.task_id(SOON_S)
        (cluster,) = (one for one in processes_in(own_folder) if "up" in one.cmdline())
        cluster.kill()
        with pytest.raises(NoCoordinator, match="of this program has ended"):
            future.result(SOON_S)
        with pytest.raises(NoCoordinator, match="the cluster of this program has ended"):
            client.submit(abs, -1)
    assert list(own_folder.iterdir()) == []


def test_client_of_the_environment_is_not_used_by_a_local_one(
    monkeypatch: pytest.MonkeyPatch, own_folder: Path
) -> None:
    monkeypatch.setenv("ROTA_URL", "http://192.0.2.1:9")
    monkeypatch.setenv("ROTA_TOKEN", "of another cluster")
    with Client.local(workers=1, options=OPTIONS) as client:
        assert client.submit(abs, -2).result(SOON_S) == 2

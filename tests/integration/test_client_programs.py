"""Programs and their files, as a Python program has them run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rota import Client, Program, TaskFailed
from rota.core.errors import BadRequest, BadSpec, Conflict, NotFound
from tests.support.real_cluster import Cluster

SOON_S = 20.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with Cluster(folder) as running:
        running.start_coordinator()
        running.start_worker("w1", "--resources=cpu=4000,memory=8192", f"--cache-dir={folder}/cache")
        yield running


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    with Client(cluster.url) as found:
        yield found


def test_a_program_has_its_files_and_gives_its_outputs(cluster: Cluster, tmp_path: Path) -> None:
    script = tmp_path / "run.sh"
    script.write_text('#!/bin/sh\ncat "$@" > out.txt\necho done\n')
    script.chmod(0o755)
    (tmp_path / "a.txt").write_text("one ")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "b.txt").write_text("two")
    files = [script, tmp_path / "a.txt", tmp_path / "data"]
    with Client(cluster.url, job="programs") as client:
        program = client.program(["./run.sh", "a.txt", "data/b.txt"], files=files, outputs=["*.txt"], name="cat")
        assert program.check(SOON_S)["name"] == "cat"
        assert program.logs() == b"done\n"
        assert [(output.name, output.bytes) for output in program.outputs()] == [("out.txt", 7)]
        [path] = client.find_program(program.id).fetch(tmp_path / "to")
        assert path.read_text() == "one two"
        assert program.info()["labels"] == {"job": "programs"}
        assert client.job("programs").status() == {"completed": 1}


def test_what_is_in_the_way_and_what_is_not_there_is_said(client: Client, tmp_path: Path) -> None:
    program = client.program(shell="echo new > out", outputs=["out"])
    program.wait(SOON_S)
    (tmp_path / "out").write_text("mine")
    with pytest.raises(Conflict, match="would be overwritten"):
        program.fetch(tmp_path)
    with pytest.raises(NotFound, match="has not left a file 'other'"):
        program.fetch(tmp_path, ["other"])
    assert (tmp_path / "out").read_text() == "mine"
    program.fetch(tmp_path, ["out"], overwrite=True)
    assert (tmp_path / "out").read_text() == "new\n"


def test_a_program_that_fails_raises_where_it_must_not(client: Client, tmp_path: Path) -> None:
    program = client.program(shell="echo half > out; exit 3", outputs=["out"])
    assert program.wait(SOON_S)["state"] == "failed"
    with pytest.raises(TaskFailed, match=f"task {program.id} has failed: exit 3") as caught:
        program.check()
    assert (caught.value.cause, caught.value.exit_code) == ("exit", 3)
    assert [path.name for path in program.fetch(tmp_path)] == ["out"]


def test_a_wait_has_an_end_and_a_cancel_ends_it(client: Client) -> None:
    program = client.program(["sleep", "600"])
    with pytest.raises(TimeoutError, match=f"task {program.id} has not ended within 0.1 s"):
        program.wait(0.1)
    with pytest.raises(Conflict):
        program.outputs()
    program.cancel()
    with pytest.raises(TaskFailed, match="was cancelled"):
        program.check(SOON_S)


def test_mistakes_are_told_at_once(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a").write_text("")
    with pytest.raises(TypeError, match="a command is a list"):
        client.program("ls -l")
    with pytest.raises(TypeError, match="outputs are a list"):
        client.program(["true"], outputs="*.csv")
    with pytest.raises(TypeError, match="files are a list"):
        client.program(["true"], files=str(tmp_path / "a"))
    with pytest.raises(BadRequest, match="would both be 'a': give them names in a dict"):
        client.program(["true"], files=[tmp_path / "a", tmp_path / "b" / "a"])
    with pytest.raises(BadSpec, match="did you mean `retries`"):
        client.program(["true"], retry=3)
    with pytest.raises(BadSpec, match="leads out of the folder"):
        client.program(["true"], outputs=["../x"])


def test_a_program_is_waited_for_through_a_restart(cluster: Cluster, tmp_path: Path) -> None:
    fifo = tmp_path / "gate"
    os.mkfifo(fifo)
    with Client(cluster.url) as client:
        program: Program = client.program(shell=f"cat {fifo} > out", outputs=["out"])
        cluster.wait_for_state(program.id, "running")
        cluster.coordinator.kill()
        cluster.start_coordinator()
        fifo.write_text("through")
        program.check(SOON_S)
        assert program.fetch(tmp_path)[0].read_text() == "through"

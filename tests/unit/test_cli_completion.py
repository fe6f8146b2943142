"""What is offered on TAB: commands, options, words, and what the coordinator has now; never an error."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

import pytest
from click.shell_completion import ShellComplete

from rota.cli import completing
from rota.cli.main import COMMANDS, cli
from rota.client.http import HttpClient
from rota.core.model import Offer
from rota.core.ordering import ORDERINGS
from rota.core.placement.policies import POLICIES
from rota.core.spec import KINDS, PRIORITY_WORDS
from rota.workloads import ARRIVALS, DURATIONS, MIXES
from tests.support.coordinators import LiveCoordinator, live_coordinator
from tests.support.network import free_port


@pytest.fixture(scope="module")
def coordinator() -> Iterator[LiveCoordinator]:
    with live_coordinator() as running:
        running.do(
            lambda: running.service.add_node("w1", offer=Offer(resources=(("cpu", 1000),), tags=frozenset({"ssd"})))
        )
        yield running


def offered(line: str, monkeypatch: pytest.MonkeyPatch, *, url: str) -> list[str]:
    monkeypatch.setenv("ROTA_URL", url)
    *args, incomplete = line.split(" ")
    return [item.value for item in ShellComplete(cli, {}, "rota", "_ROTA_COMPLETE").get_completions(args, incomplete)]


def test_commands_are_offered_without_importing_them() -> None:
    program = (
        "import sys; from click.shell_completion import ShellComplete; from rota.cli.main import cli\n"
        "print(*(item.value for item in ShellComplete(cli, {}, 'rota', 'X').get_completions([], '')))\n"
        "print(*(name for name in sys.modules if name.startswith('rota.cli.')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found, imported = done.stdout.splitlines()
    assert found.split() == [name for section in COMMANDS.values() for name in section]
    assert set(imported.split()) == {"rota.cli.main", "rota.cli.exits"}


@pytest.mark.parametrize(
    "line,values",
    [
        ("su", ["submit"]),
        ("queues pa", ["pause"]),
        ("submit --placement bin", ["binpack"]),
        ("submit --placement=bin", ["binpack"]),
        ("submit --priority cr", ["critical"]),
        ("submit --gpu-", ["--gpu-memory"]),
        ("up --ordering f", ["fcfs", "fair"]),
        ("up --algorithm round", ["round-robin"]),
        ("workload --pattern ramp", ["ramp-up", "ramp-down"]),
        ("simulate --mix c", ["cpu"]),
        ("ps --state canc", ["cancelled"]),
        ("completion z", ["zsh"]),
        ("help com", ["completion"]),
        ("help queues re", ["remove", "resume"]),
        ("help ps re", []),
    ],
)
def test_what_is_known_here_is_offered(line: str, values: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert offered(line, monkeypatch, url=f"http://127.0.0.1:{free_port()}") == values


def test_words_are_those_of_the_parts_that_know_them() -> None:
    assert set(completing.PLACEMENTS) == set(POLICIES)
    assert set(completing.ORDERINGS) == set(ORDERINGS)
    assert set(completing.KINDS) == set(KINDS)
    assert set(completing.PRIORITIES) <= set(PRIORITY_WORDS)
    assert set(completing.ARRIVALS) == set(ARRIVALS)
    assert set(completing.MIXES) == set(MIXES)
    assert set(completing.DURATIONS) == set(DURATIONS)


def test_tasks_are_offered_by_what_a_command_can_do_with_them(
    coordinator: LiveCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = coordinator.url
    with HttpClient(url) as client:
        for task_id in ("mine-1", "mine-2"):
            client.submit({"id": task_id, "command": ["true"], "delay": 3600})
        client.cancel("mine-2")
    assert sorted(offered("show mine-", monkeypatch, url=url)) == ["mine-1", "mine-2"]
    assert offered("cancel mine-", monkeypatch, url=url) == ["mine-1"]
    assert offered("retry t1 mine-", monkeypatch, url=url) == ["mine-2"]
    assert offered("why ", monkeypatch, url=url) == ["mine-1"]


def test_names_are_offered_from_the_coordinator(coordinator: LiveCoordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    url = coordinator.url
    assert offered("drain w", monkeypatch, url=url) == ["w1"]
    assert offered("resume w", monkeypatch, url=url) == []
    assert offered("ps --worker w", monkeypatch, url=url) == ["w1"]
    assert offered("submit --tag s", monkeypatch, url=url) == ["ssd"]


def test_a_name_that_a_shell_takes_for_two_is_left_out(
    coordinator: LiveCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("two words", "twofold", "two\nlines"):
        coordinator.do(partial(coordinator.service.add_node, name, offer=Offer(resources=())))
    assert offered("drain two", monkeypatch, url=coordinator.url) == ["twofold"]


def test_the_address_may_stand_on_the_line(coordinator: LiveCoordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    assert offered(f"drain --url {coordinator.url} w", monkeypatch, url=dead) == ["w1"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "nonsense", "http://"])
def test_without_a_coordinator_nothing_is_offered_in_silence(
    url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert offered("show ", monkeypatch, url=url.format(port=free_port())) == []
    assert capfd.readouterr() == ("", "")


def test_a_coordinator_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and says nothing
        began = time.monotonic()
        assert offered("show ", monkeypatch, url=f"http://127.0.0.1:{server.getsockname()[1]}") == []
        # Far less than the 30 s of a request, however slow this machine is.
        assert time.monotonic() - began < 10 * completing.ANSWER_S_MAX

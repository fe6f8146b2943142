"""The command line keeps what its documents promise: options, exit codes, JSON, a quick start."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import click
import pytest
from click.testing import CliRunner

from rota.cli import exits
from rota.cli.main import COMMANDS, cli
from rota.core.model import Offer
from scripts import make_reference
from tests.support.coordinators import LiveCoordinator, live_coordinator
from tests.support.house import ROOT

REFERENCE: Final = (ROOT / "docs" / "reference" / "cli.md").read_text()
NAMES: Final = [name for section in COMMANDS.values() for name in section]
COMMANDS_AND_PARTS: Final = list(make_reference.all_commands())

SLOW_TO_IMPORT: Final = ("urllib3", "rich", "starlette", "uvicorn", "apsw", "psutil", "asyncio")

TASK_FIELDS: Final = re.findall(
    r"\w+",
    """
    id name state reason reason_text behind cause exit_code signal message worker attempt retries_used losses_used
    cancel_requested created_at started_at ended_at cpu_seconds peak_memory stdout_bytes stderr_bytes kind command
    shell image cwd resources tags priority queue timeout retries losses backoff start_at delay deadline labels
    """,
)
"""What scripts rely on in `ps --json`. Fields may be added; none may go."""

LARGE_FIELDS: Final = ["code", "data", "env", "stdin"]
NODE_FIELDS: Final = ["id", "state", "drained", "addr", "tags", "resources", "used", "gpus", "tasks", "last_seen"]


@pytest.fixture(scope="module")
def coordinator() -> Iterator[LiveCoordinator]:
    with live_coordinator() as running:
        running.do(lambda: running.service.add_node("w1", offer=Offer(resources=(("cpu", 1000),))))
        yield running


def answer(coordinator: LiveCoordinator, *arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments, env={"ROTA_URL": coordinator.url}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_reference_is_what_make_reference_writes() -> None:
    assert make_reference.made(REFERENCE) == REFERENCE, "run `make reference`"


def test_the_reference_has_every_place_that_is_made() -> None:
    assert sorted(place[2] for place in make_reference.PLACE.finditer(REFERENCE)) == sorted(make_reference.PLACES)


def test_a_change_of_what_is_made_shows() -> None:
    stale = REFERENCE.replace("| `--retries INTEGER` | `0` |", "| `--retries INTEGER` | `7` |")
    assert stale != REFERENCE
    assert make_reference.made(stale) == REFERENCE


def test_pages_to_read_on_are_there() -> None:
    links = re.findall(r"\]\(([^)#]+)", "".join(make_reference.READ_ON.values()))
    assert links
    assert not [link for link in links if not (ROOT / "docs" / "reference" / link).exists()]
    assert set(make_reference.READ_ON) <= {name for name, _ in COMMANDS_AND_PARTS}


@pytest.mark.parametrize("name,command", COMMANDS_AND_PARTS)
def test_every_command_and_option_is_in_the_reference(name: str, command: click.Command) -> None:
    assert re.search(rf"^###+ `rota {name}`$", REFERENCE, re.M)
    options = [option for param in command.params if isinstance(param, click.Option) for option in param.opts]
    assert not [option for option in options if not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", REFERENCE)]


def test_every_exit_code_is_in_the_reference() -> None:
    codes = {code for name in exits.__all__ if isinstance(code := getattr(exits, name), int)} - {exits.SIGNAL_BASE}
    assert codes <= exits.MEANINGS.keys() | exits.MEANINGS_OF_RUN.keys()


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([name, "--help"] for name in NAMES if name != "up")]
)
def test_help_starts_without_what_is_slow_to_import(arguments: list[str]) -> None:
    program = (
        "import sys; from rota.cli.main import cli\n"
        f"try: cli.main({arguments!r})\n"
        f"except SystemExit: sys.stderr.write(' '.join(set(sys.modules) & set({SLOW_TO_IMPORT!r})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_listed_tasks_have_the_documented_fields(coordinator: LiveCoordinator) -> None:
    answer(coordinator, "submit", "true")
    (task,) = json.loads(answer(coordinator, "ps", "--limit", "1", "--json"))
    assert set(TASK_FIELDS) <= set(task)
    assert not set(LARGE_FIELDS) & set(task)


def test_a_task_as_json_has_its_large_fields_and_attempts(coordinator: LiveCoordinator) -> None:
    task = json.loads(answer(coordinator, "submit", "--json", "true"))
    shown = json.loads(answer(coordinator, "show", "--json", task["id"]))
    assert {**task, "attempts": []} == shown
    assert {*TASK_FIELDS, *LARGE_FIELDS, "attempts"} <= set(shown)


def test_workers_as_json_have_the_documented_fields(coordinator: LiveCoordinator) -> None:
    (node,) = json.loads(answer(coordinator, "nodes", "--json"))
    assert set(NODE_FIELDS) <= set(node)

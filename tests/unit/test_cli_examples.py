"""The examples that end every help: there are some, and the real parser takes each as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from rota.cli.main import cli
from scripts.make_reference import all_commands, example_of
from tests.support.examples import calls_in, write_files

COMMANDS = list(all_commands())
EXAMPLES = [(name, line) for name, command in COMMANDS for line in example_of(command).lines]

OWN_EXAMPLES_MIN = 2


@pytest.mark.parametrize("name,command", COMMANDS)
def test_every_help_ends_with_examples_of_its_own(name: str, command: click.Command) -> None:
    lines = example_of(command).lines
    assert len(lines) >= (OWN_EXAMPLES_MIN if " " not in name else 1)
    assert any(is_call_of(name, call) for line in lines for call in calls_in(line))


def test_no_example_has_words_that_are_not_typed() -> None:
    # They would be arguments: a comment begins with a #.
    assert not [line for _, line in EXAMPLES if re.search(r"\S {3,}[^#\s]", line)]


@pytest.mark.parametrize("name,line", EXAMPLES)
def test_the_parser_takes_every_example(name: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path)
    (tmp_path / ".local/state/rota").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    calls = calls_in(line)
    assert calls
    for call in calls:
        parse(cli, [word.replace("~", str(tmp_path)) for word in call])


@pytest.mark.parametrize(
    "line",
    ["rota ps --state gone", "rota submti -- true", "rota why", "rota queues set --weight x a", "rota show a b"],
)
def test_a_mistake_in_an_example_would_be_found(line: str) -> None:
    with pytest.raises(click.UsageError):
        parse(cli, calls_in(line)[0])


def is_call_of(name: str, call: list[str]) -> bool:
    return call[: len(name.split())] == name.split()


def parse(command: click.Command, arguments: list[str], parent: click.Context | None = None) -> None:
    """Read a command line as `click` does before it calls anything."""
    with command.make_context(command.name, list(arguments), parent=parent) as context:
        rest = [*context._protected_args, *context.args]
        if isinstance(command, click.Group) and rest:
            name, found, rest = command.resolve_command(context, rest)
            assert found is not None, name
            parse(found, rest, context)

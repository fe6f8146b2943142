"""Writes what `docs/reference/cli.md` says of commands and options, from the program itself: ``make reference``.

The page is prose with marked places, ``<!-- made: NAME -->`` to ``<!-- end -->``; what is between them is written anew
from the parser, and the prose stays. So an option is described once, in its help, and a conflict of a merge inside such
a place is resolved by running this again. A test holds that the page is what this gives.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from inspect import cleandoc
from pathlib import Path
from textwrap import fill
from typing import Any, Final, NamedTuple

import click

from rota.cli import exits
from rota.cli.coordinator import coordinator_options
from rota.cli.main import COMMANDS, cli
from rota.cli.options import json_option, with_client
from rota.cli.spec_options import spec_options

PAGE: Final = Path(__file__).parents[1] / "docs" / "reference" / "cli.md"

PLACE: Final = re.compile(r"^(<!-- made: ([\w ]+) -->\n).*?^(<!-- end -->)$", re.M | re.S)

READ_ON: Final = {
    "cron add": "[calendars](../calendars.md)",
    "bench": "[how quick is your cluster](../guide.md#how-quick-is-your-cluster)",
    "completion": "[the command line that helps](../guide.md#the-command-line-that-helps)",
    "events": "[the events of the API](rest.md#events)",
    "fetch": "[files](../files.md)",
    "limits": "[sharing a cluster](../sharing.md)",
    "nodes": "[workers that others keep](../placement-only.md)",
    "queues": "[sharing a cluster](../sharing.md)",
    "reserve": "[sharing a cluster](../sharing.md)",
    "simulate": "[the simulator](../simulation.md)",
    "worker": "[what a worker keeps](../operations.md#what-a-worker-keeps), [overcommit](../placement.md#overcommit), "
    "[workers over gRPC](../grpc-workers.md)",
    "workload": "[made-up load](../workloads.md), with pictures of the patterns",
}
"""Where pages say more of a command."""

MISSING_PART: Final = 0.2
"""Of the options of a group: a command that lacks less takes the group but for these."""

WIDTH: Final = 120

DEFAULT_IN_HELP: Final = re.compile(r"\s*\[default: (.*)\]$")
"""How an option's help says a default that is not a value: ``[default: the host's name]``."""


class Example(NamedTuple):
    """What the epilog of a command has: lines to type, and what is said below them."""

    lines: list[str]
    rest: str


class Shared(NamedTuple):
    """Options that several commands have, described in one place of the page."""

    text: str
    options: list[click.Option]


def main() -> int:
    PAGE.write_text(made(PAGE.read_text()))
    return 0


def made(page: str) -> str:
    """Return the page with all marked places written anew."""
    return PLACE.sub(lambda place: f"{place[1]}\n{PLACES[place[2]]()}\n\n{place[3]}", page)


def all_commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command and its subcommands, as ``queues set``, in the order of the help."""
    for section in COMMANDS.values():
        for name in section:
            command = cli.get_command(click.Context(cli), name)
            assert command is not None
            yield name, command
            if isinstance(command, click.Group):
                yield from ((f"{name} {part}", command.commands[part]) for part in sorted(command.commands))


def example_of(command: click.Command) -> Example:
    """Return the examples of a command and what its help says after them."""
    epilog = cleandoc(command.epilog or "")
    found = re.fullmatch(r"Examples:\n+\x08\n(.*?)(?:\n\n(.*))?", epilog, re.S)
    return Example(found[1].splitlines(), _flowing(found[2] or "")) if found else Example([], _flowing(epilog))


# The places of the page ------------------------------------------------------------------------------------


def _commands() -> str:
    rows = [
        (title if not index else "", f"[`rota {name}`](#rota-{name})", text)
        for title, section in COMMANDS.items()
        for index, (name, text) in enumerate(section.items())
    ]
    return _table(("", "command", "what it does"), rows)


def _details() -> str:
    return "\n\n".join(_section(name, command) for name, command in all_commands())


def _variables() -> str:
    used: dict[str, dict[str, list[str]]] = {}
    for name, command in all_commands():
        for option in _options(command):
            if option.envvar:
                commands = used.setdefault(str(option.envvar), {}).setdefault(max(option.opts, key=len), [])
                commands.append(name)
    rows = [
        (f"`{variable}`", ", ".join(f"`{option}`" for option in sorted(options)), _users_of(options.values()))
        for variable, options in sorted(used.items())
    ]
    return _table(("variable", "instead of", "for"), rows)


def _users_of(commands: Iterable[Sequence[str]]) -> str:
    names = dict.fromkeys(name.split()[0] for names in commands for name in names)
    return ", ".join(f"`{name}`" for name in names) if len(names) <= 3 else "every command that has the option"


def _connection() -> str:
    return _option_table(CONNECTION.options)


def _task() -> str:
    return _option_table(TASK.options)


def _coordinator() -> str:
    return _option_table(COORDINATOR.options)


def _exit_codes() -> str:
    return _table(("code", "meaning"), [(str(code), text) for code, text in exits.MEANINGS.items()])


def _exit_codes_of_run() -> str:
    return _table(("code", "how the task ended"), [(str(code), text) for code, text in exits.MEANINGS_OF_RUN.items()])


PLACES: Final[dict[str, Callable[[], str]]] = {
    "commands": _commands,
    "connection": _connection,
    "coordinator": _coordinator,
    "details": _details,
    "exit codes": _exit_codes,
    "exit codes of run": _exit_codes_of_run,
    "task": _task,
    "variables": _variables,
}


# A command -------------------------------------------------------------------------------------------------


def _section(name: str, command: click.Command) -> str:
    context = _context(name, command)
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [f"{'####' if ' ' in name else '###'} `rota {name}`", _flowing(cleandoc(command.help or ""))]
    if name in READ_ON:
        parts.append(f"Read on: {READ_ON[name]}.")
    example = example_of(command)
    parts.append("\n".join(["```text", f"rota {name} {usage}", "```"]))
    parts += _options_part(command)
    if example.lines:
        parts.append("\n".join(["```shell", *example.lines, "```"]))
    if example.rest:
        parts.append(example.rest)
    return "\n\n".join(part for part in parts if part)


def _options_part(command: click.Command) -> Iterator[str]:
    """The options of a command alone, as a table; for those that it shares, where they are."""
    options = _options(command)
    shared = [group for group in SHARED if len(_missing(options, group)) < MISSING_PART * len(group.options)]
    known = {_identity(option) for group in shared for option in group.options}
    own = [option for option in options if _identity(option) not in known]
    if shared:
        *first, last = [group.text + _but_for(_missing(options, group)) for group in shared]
        yield f"It takes {', '.join(first)}{' and ' if first else ''}{last}{', and:' if own else '.'}"
    if own:
        yield _option_table(own)


def _missing(options: Sequence[click.Option], group: Shared) -> list[click.Option]:
    """Return the options of a group that a command does not have."""
    there = {_identity(option) for option in options}
    return [option for option in group.options if _identity(option) not in there]


def _but_for(options: Sequence[click.Option]) -> str:
    names = ", ".join(f"`{max(option.opts, key=len)}`" for option in options)
    return f" (but for {names})" if names else ""


def _identity(option: click.Option) -> tuple[str, ...]:
    return (*option.opts, option.help or "")


def _options(command: click.Command) -> list[click.Option]:
    return [param for param in command.params if isinstance(param, click.Option) and not param.hidden]


def _context(name: str, command: click.Command) -> click.Context:
    return click.Context(command, info_name=f"rota {name}")


# An option -------------------------------------------------------------------------------------------------


def _option_table(options: Iterable[click.Option]) -> str:
    return _table(("option", "default", "meaning"), [_row(option) for option in options])


def _row(option: click.Option) -> tuple[str, str, str]:
    text = option.help or ""
    found = DEFAULT_IN_HELP.search(text)
    default = _as_code(found[1]) if found else _default(option)
    meaning = DEFAULT_IN_HELP.sub("", text)
    if isinstance(option.type, click.Choice):
        choices = ", ".join(f"`{choice}`" for choice in option.type.choices)
        meaning = f"{meaning.removesuffix('.')}: {choices}."
    if option.envvar:
        meaning += f" Else `{option.envvar}`."
    return _signature(option), default, meaning


def _signature(option: click.Option) -> str:
    """The names of an option and what stands after them, as one types it."""
    names = [*option.opts, *option.secondary_opts]
    if not (option.is_flag or isinstance(option.type, click.Choice)):
        metavar = option.make_metavar(click.Context(cli)).removesuffix(" RANGE")
        names[-1] = f"{names[-1]} {metavar}"
    return ", ".join(f"`{name}`" for name in names)


def _default(option: click.Option) -> str:
    value: Any = option.get_default(click.Context(cli), call=False)
    if option.is_flag or option.multiple or not isinstance(value, str | int | float | Path) or value == "":
        return ""
    text = f"{value:,}" if isinstance(value, int) and value > 9999 else str(value)
    return f"`{text.lower() if isinstance(value, bool) else text}`"


def _as_code(default: str) -> str:
    """Mark a default that can be typed, not one that is told."""
    return default if " " in default else f"`{default}`"


# Markdown --------------------------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _flowing(text: str) -> str:
    """Return paragraphs as lines of the width that pages have."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    return "\n\n".join(fill(text, WIDTH, break_long_words=False, break_on_hyphens=False) for text in paragraphs)


def _options_of(decorate: Callable[[Any], Any]) -> list[click.Option]:
    """Return the options that a decorator gives to a command."""

    def nothing() -> None: ...

    return _options(click.command()(decorate(nothing)))


CONNECTION: Final = Shared("the [options of the connection](#finding-the-coordinator)", _options_of(with_client))
TASK: Final = Shared("the [options of a task](#describing-a-task)", _options_of(spec_options))
COORDINATOR: Final = Shared("the [options of a coordinator](#a-coordinator)", _options_of(coordinator_options))
AS_JSON: Final = Shared("[`--json`](#output)", _options_of(json_option))
SHARED: Final = (TASK, COORDINATOR, CONNECTION, AS_JSON)


if __name__ == "__main__":
    sys.exit(main())

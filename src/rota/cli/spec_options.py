"""The options that describe a task, shared by ``submit`` and ``run``, and the spec made of them.

Options say no more than the API does: what is left out here is left out in the request, and the
coordinator checks the whole. Refused here are only options that contradict each other, and texts that JSON can't carry.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from rota.cli import completing, options
from rota.cli.files import files_option
from rota.cli.mixes import refuse_mixes
from rota.cli.wording import option_of

__all__ = ["SPEC_OPTIONS", "command_argument", "refuse_nothing", "spec_from", "spec_options"]

F = TypeVar("F", bound=Callable[..., None])

INPUT_BYTES_MAX: Final = 1 << 20
"""A spec has at most 1 MiB: there is no use in reading more."""

NAME_CHARS_MAX: Final = 200
"""Of a name: a file whose name is longer gives its task none."""

SPEC_OPTIONS: Final[Sequence[Callable[[Any], Any]]] = (
    click.option("--shell", metavar="LINE", help="Run a line of /bin/sh instead of a command."),
    click.option(
        "--python",
        "python_file",
        metavar="FILE|-",
        shell_complete=completing.files,
        help="Run a file of Python code; arguments come after --.",
    ),
    click.option(
        "--go",
        "go_file",
        metavar="FILE|-",
        shell_complete=completing.files,
        help="Build and run a Go program; arguments come after --.",
    ),
    click.option("--name", help="A name to find it by."),
    click.option("--id", "task_id", type=options.ID, help="An id of your own; the same task twice is one."),
    click.option("-e", "--env", type=options.PAIR, multiple=True, help="Set a variable. Repeat for more."),
    files_option,
    click.option("--output", "outputs", metavar="GLOB", multiple=True, help="Keep what it leaves there: 'out/*.csv'."),
    click.option("--cwd", help="Where to run, an absolute path on the worker."),
    click.option("--stdin", metavar="TEXT|@FILE|-", help="What it reads: a text, a file, or - for our own input."),
    click.option("--cpu", type=options.CPU, help="Cores: 2, 0.5 or 500m.  [default: 1]"),
    click.option("--memory", type=options.MEMORY, help="Memory, held as a limit: 512M or 2G."),
    click.option("--gpu", type=int, help="Devices."),
    click.option("--gpu-memory", type=options.MEMORY, help="Memory of each device; without --gpu a share of one."),
    click.option("-r", "--resource", type=options.RESOURCE, multiple=True, help="Any other amount. Repeat for more."),
    click.option(
        "--tag",
        "tags",
        multiple=True,
        shell_complete=completing.tags(),
        help="Of its worker: TAG, !TAG, TAG~, 'TAG>=1.2'. Repeat for more.",
    ),
    click.option(
        "--placement",
        metavar="POLICY",
        shell_complete=completing.placements,
        help="Which worker gets it: binpack, spread, consistent-hash, …",
    ),
    click.option("--affinity", metavar="KEY", help="What consistent-hash and spread know it by.  [default: id, name]"),
    click.option(
        "--priority",
        metavar="0-100|WORD",
        shell_complete=completing.words(*completing.PRIORITIES),
        help="Or low, normal, high, critical.  [default: normal]",
    ),
    click.option("--queue", shell_complete=completing.queues(), help="The queue to wait in.  [default: default]"),
    click.option(
        "--limit",
        "limits",
        type=options.LIMIT,
        multiple=True,
        shell_complete=completing.limits(),
        help="Hold so many of a limit: NAME=1.",
    ),
    click.option("--timeout", type=options.DURATION, help="End an attempt that takes longer: 30s, 5m."),
    click.option("--retries", type=int, help="Further attempts after a failure of its own.  [default: 0]"),
    click.option("--losses", type=int, help="Further attempts after a loss of its worker.  [default: 5]"),
    click.option("--backoff", type=options.DURATION, help="Before the first retry; doubles with each.  [default: 1s]"),
    click.option("--start-at", type=options.MOMENT, help="Not before this time: 2030-01-31T12:00:00Z."),
    click.option("--delay", type=options.DURATION, help="Not before so long from now."),
    click.option("--deadline", type=options.MOMENT_OR_DURATION, help="Must have ended by then, or within so long."),
    click.option("-l", "--label", "labels", type=options.PAIR, multiple=True, help="A label to find it by."),
    click.option(
        "--exclusive", is_flag=True, default=None, help="Never run it twice at once, at the price of waiting."
    ),
    click.option("--gang", type=options.GANG, help="ID:SIZE: run it together with the others of its gang, or not."),
    click.option("--image", help="Run it in a container of this image."),
    click.option(
        "--kind",
        shell_complete=completing.words(*completing.KINDS),
        help="The executor, where it is not implied: python or go for --code.",
    ),
    click.option("--code", metavar="TEXT|@FILE", help="A snippet to run; needs --kind."),
    click.option("--data", metavar="python:…|go:…", help="A snippet with its kind before it."),
)

WORK: Final = frozenset({"command", "shell", "code", "data", "image"})
"""The fields that say what to run."""

CODE_OPTIONS: Final = frozenset({"python", "go", "code"})
"""Options whose file is source code, which is text."""

WITH_A_FILE: Final = "send it as a file instead (--file PATH), and let the task read that"
"""What to do with input that a spec can't hold."""

command_argument = click.argument(
    "arguments", metavar="[--] [COMMAND]...", nargs=-1, type=click.UNPROCESSED, shell_complete=completing.files
)


def spec_options(function: F) -> F:
    """Give a command all options that describe a task."""
    for option in reversed(SPEC_OPTIONS):
        function = option(function)
    return function


def spec_from(arguments: Sequence[str], fields: Mapping[str, Any]) -> dict[str, Any]:  # values of every type
    """Make the spec of a task from the command and the options that were given. Its ``files`` are paths yet.

    Args:
        arguments: The command and its arguments, empty for none.
        fields: The values of `SPEC_OPTIONS` by their names.

    Raises:
        click.UsageError: Options contradict each other, a text has bytes that JSON can't carry, or a file can't be
            read.
    """
    spec = {name: value for name, value in fields.items() if value is not None and value != ()}
    refuse_mixes(spec, arguments)
    if arguments:
        spec["command"] = list(arguments)
    _take_file_of_code(spec)
    if "task_id" in spec:
        spec["id"] = spec.pop("task_id")
    for name in ("env", "labels", "limits"):
        if name in spec:
            spec[name] = dict(spec[name])
    for name in ("tags", "outputs"):
        if name in spec:
            spec[name] = list(spec[name])
    if "priority" in spec and spec["priority"].isdecimal():
        spec["priority"] = int(spec["priority"])
    for name in ("stdin", "code"):
        if name in spec:
            spec[name] = _text_of(spec[name], option=name, may_be_stdin=name == "stdin")
    resources = _take_resources(spec)
    if resources:
        spec["resources"] = resources
    _refuse_undecodable(spec)
    return spec


def refuse_nothing(spec: Mapping[str, Any]) -> None:
    """Refuse a command line that says nothing of what to run.

    Raises:
        click.UsageError: It does not.
    """
    if not WORK & spec.keys():
        raise click.UsageError("there is nothing to run: give a command after --, --shell LINE, or --python FILE")


def _take_resources(spec: dict[str, Any]) -> dict[str, int]:
    """Move the options that are amounts into one mapping."""
    resources = dict(spec.pop("resource", ()))
    for name in ("cpu", "memory", "gpu", "gpu_memory"):
        amount = spec.pop(name, None)
        if amount is not None:
            resources[name] = amount
    return resources


def _take_file_of_code(spec: dict[str, Any]) -> None:
    """Put what is in the file of ``--python`` or ``--go`` in its place, and call the task by the file."""
    files = {kind: spec.pop(f"{kind}_file") for kind in ("python", "go") if f"{kind}_file" in spec}
    for kind, path in files.items():
        spec["kind"] = kind
        spec["code"] = _content_of(path, option=kind)
        name = Path(path).name
        if path != "-" and name.isprintable() and len(name) <= NAME_CHARS_MAX:
            spec.setdefault("name", name)


def _text_of(text: str, *, option: str, may_be_stdin: bool) -> str:
    """Return a text as given, or what the file holds that it names."""
    if text == "-" and may_be_stdin:
        return _content_of("-", option=option)
    return _content_of(text[1:], option=option) if text.startswith("@") else text


def _content_of(path: str, *, option: str) -> str:
    """Return what a file holds, or our own input if it is called ``-``."""
    try:
        if path == "-":
            content = sys.stdin.buffer.read(INPUT_BYTES_MAX + 1)
        else:
            with Path(path).open("rb") as file:
                content = file.read(INPUT_BYTES_MAX + 1)
    except OSError as error:
        raise click.UsageError(f"--{option}: can't read {path}: {error.strerror}") from error
    if len(content) > INPUT_BYTES_MAX:
        raise click.UsageError(f"--{option}: more than 1 MiB: {WITH_A_FILE}")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        advice = "save it as UTF-8" if option in CODE_OPTIONS else WITH_A_FILE
        raise click.UsageError(f"--{option}: not UTF-8: {advice}") from None


def _refuse_undecodable(spec: Mapping[str, Any]) -> None:
    for name, value in spec.items():
        try:
            str(value if isinstance(value, str) else "\0".join(map(str, _flat(value)))).encode("utf-8")
        except UnicodeEncodeError:
            raise click.UsageError(
                f"{option_of(name) or name}: has bytes that are not UTF-8, which the API can't carry"
            ) from None


def _flat(value: object) -> list[object]:
    if isinstance(value, dict):
        return [part for pair in value.items() for part in pair]
    return value if isinstance(value, list) else [value]

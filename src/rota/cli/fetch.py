"""``rota fetch``: brings back the files that tasks have left: of one, of several, or of all that filters match."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from rota.cli import completing
from rota.cli.choosing import Choice, task_choice
from rota.cli.exits import REFUSED
from rota.cli.options import json_option, with_client
from rota.cli.progress import progress_bar
from rota.cli.text import all_lines, escaped, size
from rota.cli.views import ShownTask, view_of
from rota.cli.waiting import wait_for_all
from rota.core.errors import Conflict, NotFound

if TYPE_CHECKING:
    from rota.client.files import Output
    from rota.client.http import HttpClient

__all__ = ["command"]

NAMES_SHOWN: Final = 10


class _Left(NamedTuple):
    """A file, and the task that has left it."""

    task: str
    output: Output


@click.command(
    epilog="""Examples:

    \b
    rota submit --id sums --file a.csv --output result --shell 'mkdir result; sort a.csv > result/sorted.csv'
    rota fetch sums --wait               # all that it left, into this folder
    rota fetch sums --to elsewhere       # or into another
    rota fetch sums --only '*.csv'       # some of it
    rota fetch sums --list               # only look
    rota fetch --label job=sweep --to results --by-id
    """,
)
@task_choice(example="--label job=sweep")
@click.option(
    "--only",
    "names",
    metavar="NAME|GLOB",
    multiple=True,
    shell_complete=completing.outputs,
    help="Only files of this name, or such names: '*.csv'. Repeat for more.",
)
@click.option(
    "--to",
    "folder",
    metavar="DIR",
    default=".",
    shell_complete=completing.folders,
    help="Into this folder.  [default: the current one]",
)
@click.option("--by-id", is_flag=True, help="Into a folder in it for each task, by its id.")
@click.option("--wait", "is_waited_for", is_flag=True, help="Wait for the end of the tasks.")
@click.option("--force", "mode", flag_value="force", help="Overwrite what is there.")
@click.option("--list", "mode", flag_value="list", help="Write nothing; say what there is.")
@json_option
@with_client
def command(
    client: HttpClient,
    /,
    *,
    choice: Choice,
    names: tuple[str, ...],
    folder: str,
    by_id: bool,
    mode: str | None,
    is_waited_for: bool,
    as_json: bool,
) -> None:
    """Bring back the files that tasks have left.

    Give ids, or filters for all tasks that match them; of several filters all must hold. Nothing is written where a
    file is in the way, or where two tasks have left different files of one name: then --by-id parts them.
    """
    chosen = [view_of(answer, ShownTask) for answer in choice.tasks(client)]
    if not chosen:
        _say("no task matches")
    ended = _ended(client, chosen, is_waited_for=is_waited_for)
    found = list(_found(client, ended, names))
    paths: Sequence[Path | None] = [None] * len(found)
    if found and mode != "list":
        paths = _bring(client, found, Path(folder), by_id=by_id, overwrite=mode == "force")
    if found or as_json:
        _tell(found, paths, as_json=as_json, with_task=len(chosen) > 1 and mode == "list")
    if not found or len(ended) < len(chosen):
        raise click.exceptions.Exit(REFUSED)


def _ended(client: HttpClient, tasks: list[ShownTask], *, is_waited_for: bool) -> list[ShownTask]:
    """Those that have ended, in their order; says which have not.

    Raises:
        Conflict: It is one, and it has not.
    """
    ends = {task.id: task for task in tasks if task.has_ended}
    left = [task for task in tasks if not task.has_ended]
    if left and is_waited_for:
        with progress_bar(len(left)) as advance:

            def note(task: ShownTask) -> None:
                ends[task.id] = task
                advance(0)

            wait_for_all(client, [task.id for task in left], on_end=note)
    elif left and len(tasks) == 1:
        raise Conflict(f"{left[0].id} is {left[0].state}: ask again when it has ended, or --wait for that")
    elif left:
        _say(f"{_listed([task.id for task in left])} not ended: ask again later, or --wait for that")
    return [ends[task.id] for task in tasks if task.id in ends]


def _found(client: HttpClient, tasks: list[ShownTask], patterns: tuple[str, ...]) -> Iterator[_Left]:
    """What the tasks have left and is wanted; says what is to be noted of each, and which have left nothing."""
    empty: list[ShownTask] = []
    there: dict[str, None] = {}
    met: set[str] = set()
    for task in tasks:
        if task.message:  # a pattern that matched nothing, and what could not be kept
            _say(f"{task.id} {task.outcome}")
        outputs = client.files.outputs(task.id)
        there.update(dict.fromkeys(output.name for output in outputs))
        if not outputs:
            empty.append(task)
        for output in outputs:
            matching = {pattern for pattern in patterns if fnmatchcase(output.name, pattern)}
            met |= matching
            if matching or not patterns:
                yield _Left(task.id, output)
    _say_nothing_of(empty)
    missed = [pattern for pattern in patterns if pattern not in met]
    if there and missed:
        names = ", ".join(list(there)[:NAMES_SHOWN])
        who = f"{tasks[0].id} has not" if len(tasks) == 1 else "none of them has"
        raise NotFound(escaped(f"{who} brought back {missed[0]!r}; what there is: {names}"))


def _say_nothing_of(empty: list[ShownTask]) -> None:
    if len(empty) == 1:
        _say(f"{empty[0].id} has brought nothing back{_why_nothing(empty[0])}")
    elif empty:
        _say(f"{_listed([task.id for task in empty])} brought nothing back")


def _why_nothing(task: ShownTask) -> str:
    if not task.outputs:
        return ": it was submitted without --output"
    return ": it was cancelled, and then nothing is kept" if task.state == "cancelled" else ""


def _bring(client: HttpClient, found: list[_Left], folder: Path, *, by_id: bool, overwrite: bool) -> list[Path]:
    """Write the files, and return where they are."""
    # With a folder each, what is in the way of one task keeps the next from nothing that was written before.
    parts = [(folder / task, list(group)) for task, group in groupby(found, lambda left: left.task)]
    if not by_id:
        _refuse_clash(found)
        parts = [(folder, found)]
    paths: list[Path] = []
    for into, group in parts:
        try:
            paths += client.files.fetch([left.output for left in group], into, overwrite=overwrite)
        except Conflict as error:
            raise Conflict(f"{escaped(str(error))}; --force overwrites, --to DIR writes elsewhere") from error
    return paths


def _refuse_clash(found: Iterable[_Left]) -> None:
    """Refuse two files of one name that differ: one would be lost, and no ``--force`` is meant for that."""
    first: dict[str, _Left] = {}
    for left in found:
        other = first.setdefault(left.output.name, left)
        if other.output.digest != left.output.digest:
            clash = f"{other.task} and {left.task} have both left {left.output.name!r}, and they differ"
            raise Conflict(escaped(f"{clash}: nothing was written; --by-id gives each task a folder of its own"))


def _tell(found: list[_Left], paths: Sequence[Path | None], *, as_json: bool, with_task: bool) -> None:
    told = zip(found, paths, strict=True)
    if as_json:
        click.echo(json.dumps([_as_json(left, path) for left, path in told], indent=2))
        return
    for left, path in told:
        task = f"{left.task}  " if with_task else ""
        click.echo(escaped(f"{task}{path or left.output.name}  {size(left.output.bytes)}"))


def _as_json(left: _Left, path: Path | None) -> dict[str, object]:
    return {
        "task": left.task,
        "name": left.output.name,
        "bytes": left.output.bytes,
        "digest": left.output.digest,
        "executable": left.output.executable,
        "path": None if path is None else str(path),
    }


def _listed(ids: Sequence[str]) -> str:
    """Name the first of some tasks, with the verb.

    >>> _listed(["t1"]), _listed(["t1", "t2"])
    ('t1 has', '2 tasks (t1, t2) have')
    """
    if len(ids) == 1:
        return f"{ids[0]} has"
    more = ", …" if len(ids) > NAMES_SHOWN else ""
    return f"{len(ids):,} tasks ({', '.join(ids[:NAMES_SHOWN])}{more}) have"


def _say(text: str) -> None:
    click.echo(f"rota: {all_lines(text)}", err=True)

"""``rota fetch``: brings back the files that a task has left."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import click

from rota.cli import completing
from rota.cli.exits import REFUSED
from rota.cli.options import ID, json_option, with_client
from rota.cli.text import all_lines, escaped, size
from rota.cli.views import ShownTask, view_of
from rota.cli.waiting import wait_for_one
from rota.core.errors import Conflict, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rota.client.files import Output
    from rota.client.http import HttpClient

__all__ = ["command"]

NAMES_SHOWN: Final = 10


@click.command(
    epilog="""Examples:

    \b
    rota submit --id sums --file a.csv --output result --shell 'mkdir result; sort a.csv > result/sorted.csv'
    rota fetch sums --wait               # all that it left, into this folder
    rota fetch sums --to elsewhere       # or into another
    rota fetch sums result/sorted.csv    # one file
    rota fetch sums --list               # only look
    """,
)
@click.argument("task_id", metavar="ID", type=ID, shell_complete=completing.tasks())
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=completing.outputs)
@click.option(
    "--to",
    "folder",
    metavar="DIR",
    default=".",
    shell_complete=completing.folders,
    help="Into this folder.  [default: the current one]",
)
@click.option("--force", is_flag=True, help="Overwrite what is there.")
@click.option("--wait", "is_waited_for", is_flag=True, help="Wait for the end of the task.")
@click.option("--list", "is_listed_only", is_flag=True, help="Write nothing; say what there is.")
@json_option
@with_client
def command(
    client: HttpClient,
    *,
    task_id: str,
    names: tuple[str, ...],
    folder: str,
    force: bool,
    is_waited_for: bool,
    is_listed_only: bool,
    as_json: bool,
) -> None:
    """Bring back the files that a task has left, or those of these names."""
    task = wait_for_one(client, task_id) if is_waited_for else view_of(client.task(task_id), ShownTask)
    if not task.has_ended:
        raise Conflict(f"{task.id} is {task.state}: ask again when it has ended, or --wait for that")
    outputs = _chosen(client.files.outputs(task_id), names, task_id)
    _say_message(task)
    if not outputs:
        click.echo(f"rota: {escaped(task.id)} has brought nothing back{_why_nothing(task)}", err=True)
        if as_json:
            click.echo("[]")
        raise click.exceptions.Exit(REFUSED)
    paths: Sequence[str | None] = [None] * len(outputs)
    if not is_listed_only:
        try:
            paths = [str(path) for path in client.files.fetch(outputs, folder, overwrite=force)]
        except Conflict as error:
            raise Conflict(f"{escaped(str(error))}; --force overwrites, --to DIR writes elsewhere") from error
    _tell(outputs, paths, as_json=as_json)


def _chosen(outputs: list[Output], names: tuple[str, ...], task_id: str) -> list[Output]:
    by_name = {output.name: output for output in outputs}
    for name in names:
        if name not in by_name:
            there = ", ".join(list(by_name)[:NAMES_SHOWN]) or "none"
            raise NotFound(escaped(f"{task_id} has not brought back {name!r}; what there is: {there}"))
    return [by_name[name] for name in dict.fromkeys(names)] if names else outputs


def _say_message(task: ShownTask) -> None:
    """A pattern that matched nothing, and what could not be kept, stand in the task's message."""
    if task.message:
        click.echo(f"rota: {all_lines(f'{task.id} {task.outcome}')}", err=True)


def _why_nothing(task: ShownTask) -> str:
    if not task.outputs:
        return ": it was submitted without --output"
    return ": it was cancelled, and then nothing is kept" if task.state == "cancelled" else ""


def _tell(outputs: list[Output], paths: Sequence[str | None], *, as_json: bool) -> None:
    if as_json:
        told = [
            {
                "name": output.name,
                "bytes": output.bytes,
                "digest": output.digest,
                "executable": output.executable,
                "path": path,
            }
            for output, path in zip(outputs, paths, strict=True)
        ]
        click.echo(json.dumps(told, indent=2))
        return
    for output, path in zip(outputs, paths, strict=True):
        click.echo(f"{escaped(path or output.name)}  {size(output.bytes)}")

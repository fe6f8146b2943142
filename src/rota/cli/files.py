"""The options ``--file`` and ``--output``: files that go with a task, and those that come back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rota.cli import completing
from rota.cli.options import Parsed
from rota.cli.patience import Patience
from rota.cli.text import escaped, size
from rota.core.errors import RotaError
from rota.core.filenames import FilePattern

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rota.client.http import HttpClient

__all__ = ["bring_back", "files_option", "parse_file", "ship_files"]

T = TypeVar("T")


def parse_file(text: str) -> tuple[str, str]:
    """Read ``PATH`` or ``PATH=NAME``; return name and path. A file whose name has a ``=`` is taken as it is.

    >>> parse_file("data/a.csv=in.csv"), parse_file("data/a.csv"), parse_file("data/")
    (('in.csv', 'data/a.csv'), ('a.csv', 'data/a.csv'), ('data', 'data/'))
    """
    path, sign, name = text.rpartition("=")
    if not sign or os.path.lexists(text):
        path = text
        name = Path(os.path.abspath(text)).name
    if not path or not name:
        raise ValueError(f"{text!r} is not PATH or PATH=NAME")
    return name, path


def _by_name(_ctx: click.Context, _param: click.Parameter, files: tuple[tuple[str, str], ...]) -> dict[str, str] | None:
    """The paths of files by the names that they are to have, if there are any."""
    paths: dict[str, str] = {}
    for name, path in files:
        if name in paths:
            raise click.UsageError(
                f"--file: {paths[name]} and {path} would both be {name!r}: give one another name, as in {path}=NAME"
            )
        paths[name] = path
    return paths or None


files_option = click.option(
    "--file",
    "files",
    type=Parsed("path[=name]", parse_file),
    multiple=True,
    callback=_by_name,
    shell_complete=completing.files,
    help="Ship a file or a folder into its scratch directory.",
)


def ship_files(client: HttpClient, spec: dict[str, Any]) -> None:
    """Have the files of a spec at the coordinator; where the spec says paths, it says digests then."""
    if spec.get("files"):
        spec["files"] = client.files.ship(spec["files"])


def bring_back(client: HttpClient, task_id: str, patterns: Sequence[str]) -> None:
    """Put what a task that was run has left where its command would have written it, had it run here.

    That is over what is there, so it must be of the names that were asked for, whatever the coordinator says.

    Raises:
        RotaError: It can't be fetched or written.
    """
    if not patterns:
        return
    outputs = _with_patience(lambda: client.files.outputs(task_id))
    wanted = [FilePattern(pattern) for pattern in patterns]
    for output in outputs:
        if not any(pattern.means(output.name) for pattern in wanted):
            raise RotaError(f"the coordinator brings {output.name!r}, which no --output asked for: nothing is written")
    for output, path in zip(outputs, _with_patience(lambda: client.files.fetch(outputs, overwrite=True)), strict=True):
        click.echo(f"rota: {escaped(str(path))} ({size(output.bytes)})", err=True)


def _with_patience(ask: Callable[[], T]) -> T:
    """Ask again while the coordinator is away for a moment."""
    patience = Patience()
    while True:
        try:
            return ask()
        except RotaError as error:
            patience.bear(error)

"""The options ``--file`` and ``--output``: files that go with a task, and those that come back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rota.cli.options import Parsed
from rota.cli.text import escaped, size

if TYPE_CHECKING:
    from rota.client.files import Output
    from rota.client.http import HttpClient

__all__ = ["bring_back", "files_option", "parse_file", "ship_files"]


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
    help="Ship a file or a folder into its scratch directory.",
)


def ship_files(client: HttpClient, spec: dict[str, Any]) -> None:
    """Have the files of a spec at the coordinator; where the spec says paths, it says digests then."""
    if spec.get("files"):
        spec["files"] = client.files.ship(spec["files"])


def bring_back(client: HttpClient, outputs: list[Output]) -> None:
    """Put what a task that was run brought back where its command would have written it, had it run here."""
    for output, path in zip(outputs, client.files.fetch(outputs, overwrite=True), strict=True):
        click.echo(f"rota: {escaped(str(path))} ({size(output.bytes)})", err=True)

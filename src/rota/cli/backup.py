"""``rota backup``: copies a state directory while its coordinator works."""

from __future__ import annotations

from pathlib import Path

import click

from rota.cli.text import size

__all__ = ["command"]

FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command(
    epilog="""Examples:

    \b
    rota backup --state-dir ~/.local/state/rota copy
    rota backup --state-dir ~/.local/state/rota copy     # again: only what is new of blobs and output is copied
    """
)
@click.argument("target", type=FOLDER)
@click.option("--state-dir", type=FOLDER, default=Path(".rota"), show_default=True, help="Of the coordinator.")
def command(target: Path, *, state_dir: Path) -> None:
    """Copy a coordinator's state, while it works or not: database, blobs and output go to TARGET, as of one moment.

    Type it on the coordinator's machine, as its user. An earlier copy is brought up to date. A coordinator can be
    started from a copy of it: 'rota coordinator --state-dir COPY'.
    """
    from rota.store.backup import back_up  # noqa: PLC0415 - slow to import, and help does without

    report = back_up(state_dir, target)
    click.echo(
        f"{target} has the database ({size(report.database_bytes)}), {report.blobs:,} blobs "
        f"and {report.segments:,} files of output"
    )

"""Lists for people on a terminal, and for programs when piped.

On a terminal: aligned columns, colours for states, cut to its width. In a pipe: a header line
and one line a row, fields parted by a tab, nothing cut, so that ``cut`` and ``awk`` work. Cells are
escaped here, so no field can hold a tab or move a cursor. ``NO_COLOR`` is honoured.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import click

from rota.cli.text import escaped

__all__ = ["STATE_STYLES", "print_table", "styled_state"]

STATE_STYLES: Final[Mapping[str, str]] = {
    "pending": "yellow",
    "assigned": "cyan",
    "running": "blue",
    "completed": "green",
    "failed": "red",
    "cancelled": "magenta",
    "online": "green",
    "draining": "yellow",
    "suspicious": "yellow",
    "offline": "red",
}


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, wide: str | None = None) -> None:
    """Print rows under a header.

    Args:
        columns: The titles. A column called STATE is coloured.
        rows: As many cells each as there are columns. Read one by one when piped.
        wide: The column that gives way on a narrow terminal.
    """
    if sys.stdout.isatty():
        _print_on_terminal(columns, rows, wide=wide)
        return
    remaining = iter(rows)
    # Before the header: a coordinator that does not answer should not leave half a table.
    first = next(remaining, None)
    click.echo("\t".join(columns))
    for row in () if first is None else itertools.chain([first], remaining):
        click.echo("\t".join(escaped(cell) for cell in row))


def styled_state(state: str) -> str:
    """Return a state in its colour where colours are shown (``click`` takes them out of pipes)."""
    return click.style(escaped(state), fg=STATE_STYLES.get(state)) if colours_are_wanted() else escaped(state)


def colours_are_wanted() -> bool:
    """Say whether to colour what goes to stdout."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _print_on_terminal(columns: Sequence[str], rows: Iterable[Sequence[str]], *, wide: str | None) -> None:
    # Only here: rich takes a while to import, and pipes and JSON do without.
    from rich.console import Console  # noqa: PLC0415 - see above
    from rich.table import Table  # noqa: PLC0415 - see above
    from rich.text import Text  # noqa: PLC0415 - see above

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in columns:
        table.add_column(title, no_wrap=True, overflow="ellipsis", ratio=1 if title == wide else None)
    for row in rows:
        cells = [Text(escaped(cell)) for cell in row]
        for title, cell in zip(columns, cells, strict=True):
            if title == "STATE":
                cell.stylize(STATE_STYLES.get(cell.plain, ""))
        table.add_row(*cells)
    Console(highlight=False).print(table)

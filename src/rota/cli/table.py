"""Lists for people on a terminal, and for programs when piped.

On a terminal: aligned columns, colours for states, made to fit its width. In a pipe: a header line
and one line a row, fields parted by a tab, nothing cut, so that ``cut`` and ``awk`` work. A cell is one
line, where a message has several, too, and escaped, so that it can't hold a tab or move a cursor.
``NO_COLOR`` is honoured.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import click

from rota.cli.text import escaped, one_line

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["STATE_STYLES", "fitted", "print_table", "styled_state", "terminal_table"]

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

GAP: Final = 2
"""Between columns."""

WIDTH_MIN: Final = 8
"""Of a column that is shortened: less would tell nothing."""


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, wide: Sequence[str] = (), spare: Sequence[str] = ()
) -> None:
    """Print rows under a header.

    Args:
        columns: The titles. A column called STATE is coloured.
        rows: As many cells each as there are columns. Read one by one when piped.
        wide: The columns that are shortened on a narrow terminal; the others never are.
        spare: The columns that it does without, in this order, when that is not enough.
    """
    if sys.stdout.isatty():
        _print_on_terminal(columns, list(rows), wide=wide, spare=spare)
        return
    remaining = iter(rows)
    # Before the header: a coordinator that does not answer should not leave half a table.
    first = next(remaining, None)
    click.echo("\t".join(columns))
    for row in () if first is None else itertools.chain([first], remaining):
        click.echo("\t".join(map(one_line, row)))


def fitted(natural: Mapping[str, int], room: int, *, wide: Sequence[str], spare: Sequence[str]) -> dict[str, int]:
    """Return the columns that are shown, and how wide each is.

    Args:
        natural: How wide each column would like to be, at least 1.
        room: Width of the terminal.
        wide: The columns that may be shortened.
        spare: The columns that may be left out, the first one first.

    >>> fitted({"ID": 4, "TASK": 30, "TOOK": 6, "WHY": 12}, 40, wide=["TASK", "WHY"], spare=["TOOK"])
    {'ID': 4, 'TASK': 12, 'TOOK': 6, 'WHY': 12}
    >>> fitted({"ID": 4, "TASK": 30, "TOOK": 6, "WHY": 12}, 20, wide=["TASK", "WHY"], spare=["TOOK"])
    {'ID': 4, 'TASK': 8, 'WHY': 8}
    """
    widths = {title: min(width, WIDTH_MIN) if title in wide else width for title, width in natural.items()}
    for title in spare:
        if _total(widths) > room:
            widths.pop(title, None)
    # What is left goes to the narrow ones first: they need the least to be whole.
    flexible = sorted((title for title in widths if title in wide), key=natural.__getitem__)
    for count, title in zip(range(len(flexible), 0, -1), flexible, strict=True):
        widths[title] = min(natural[title], widths[title] + max(0, room - _total(widths)) // count)
    return widths


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)


def styled_state(state: str) -> str:
    """Return a state in its colour where colours are shown (``click`` takes them out of pipes)."""
    return click.style(escaped(state), fg=STATE_STYLES.get(state)) if colours_are_wanted() else escaped(state)


def colours_are_wanted() -> bool:
    """Say whether to colour what goes to stdout."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def terminal_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int,
    wide: Sequence[str] = (),
    spare: Sequence[str] = (),
) -> Table:
    """Make a table that fits a terminal of so many columns; the rest as in `print_table`."""
    # Only here: rich takes a while to import, and pipes and JSON do without.
    from rich.table import Table  # noqa: PLC0415 - see above
    from rich.text import Text  # noqa: PLC0415 - see above

    cells = [[Text(one_line(cell)) for cell in row] for row in rows]
    natural = {title: max([len(title), *(row[index].cell_len for row in cells)]) for index, title in enumerate(columns)}
    widths = fitted(natural, width, wide=wide, spare=spare)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for title, column_width in widths.items():
        table.add_column(title, no_wrap=True, overflow="ellipsis", width=column_width)
    for row in cells:
        shown = [cell for title, cell in zip(columns, row, strict=True) if title in widths]
        for title, cell in zip(widths, shown, strict=True):
            if title == "STATE":
                cell.stylize(STATE_STYLES.get(cell.plain, ""))
        table.add_row(*shown)
    return table


def _print_on_terminal(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, wide: Sequence[str], spare: Sequence[str]
) -> None:
    from rich.console import Console  # noqa: PLC0415 - as above

    console = Console(highlight=False)
    table = terminal_table(columns, rows, width=console.width, wide=wide, spare=spare)
    console.print(table, soft_wrap=False, crop=False)

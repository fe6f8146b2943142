"""A bar on stderr while many tasks are waited for; nothing where stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["counting_bar", "progress_bar"]

REFRESHES_PER_SECOND: Final = 5
"""Enough to look alive, little enough not to cost anything."""


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar for ``total`` tasks; yields what is to be called after each end with the failures so far."""
    if total < 2 or not sys.stderr.isatty():
        yield _show_nothing
        return
    # Only here: rich takes a while to import, and scripts do without.
    from rich.console import Console  # noqa: PLC0415 - see above
    from rich.progress import (  # noqa: PLC0415 - see above
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, refresh_per_second=REFRESHES_PER_SECOND) as progress:
        bar = progress.add_task("", total=total)

        def advance(failures: int) -> None:
            progress.update(bar, advance=1, description=f"{failures} failed" if failures else "")

        yield advance


@contextmanager
def counting_bar(total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar for ``total`` things; yields what is to be called with how many are done."""
    if total < 2 or not sys.stderr.isatty():
        yield _show_nothing
        return
    # Only here, as above.
    from rich.console import Console  # noqa: PLC0415 - see above
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn  # noqa: PLC0415 - see above

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, refresh_per_second=REFRESHES_PER_SECOND, transient=True) as progress:
        bar = progress.add_task("", total=total)
        yield lambda done: progress.update(bar, completed=done)


def _show_nothing(count: int) -> None:
    """Take the news and keep quiet."""
    del count

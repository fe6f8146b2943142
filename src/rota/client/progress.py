"""`progress`: a bar for whatever one goes through, drawn where somebody looks.

``for result in progress(client.map(...)): ...`` passes everything on as it comes and counts it. Futures are
passed on in the order in which they are done. On a terminal the bar is rich's, on standard error; in a
notebook it is HTML that is updated in place; in a pipe or a log nothing is drawn.
"""

from __future__ import annotations

import operator
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator
from concurrent.futures import Future, as_completed
from contextlib import contextmanager
from typing import Final, TypeVar, overload

from rota.client import notebook

__all__ = ["counted_async", "progress"]

T = TypeVar("T")

REDRAW_S: Final = 0.2
"""Between two updates of a notebook's bar: each is a message to the browser."""


@overload
def progress(things: AsyncIterable[T], total: int | None = None, desc: str = "") -> AsyncGenerator[T, None]: ...


@overload
def progress(things: Iterable[T], total: int | None = None, desc: str = "") -> Iterator[T]: ...


def progress(
    things: Iterable[T] | AsyncIterable[T], total: int | None = None, desc: str = ""
) -> Iterator[T] | AsyncGenerator[T, None]:
    """Go through things with a bar.

    Args:
        things: Futures, or whatever can be gone through, such as what ``client.map`` returns. What is gone through
            with ``async for`` is so here, too.
        total: How many there are, if that can't be asked of them.
        desc: A few words before the bar.

    Yields:
        The same things; futures when they are done, the first that is done first.
    """
    if total is None:
        total = operator.length_hint(things, -1)
    known = total if total >= 0 else None
    if isinstance(things, AsyncIterable):
        return counted_async(things, known, desc)
    return _counted(_as_done(things), known, desc)


async def counted_async(things: AsyncIterable[T], total: int | None = None, desc: str = "") -> AsyncGenerator[T, None]:
    """As `progress`, for things that are only gone through with ``async for``; they end when their consumer does."""
    try:
        with _bar(total, desc) as advance:
            async for thing in things:
                advance()
                yield thing
    finally:
        if isinstance(things, AsyncGenerator):
            await things.aclose()


def _as_done(things: Iterable[T]) -> Iterable[T]:
    """Futures in the order in which they are done; anything else in its own."""
    if isinstance(things, list | tuple | set | frozenset) and things:
        futures = [thing for thing in things if isinstance(thing, Future)]
        if len(futures) == len(things):
            done: Iterator[T] = as_completed(futures)  # type: ignore[assignment]  # they are what came in
            return done
    return things


def _counted(things: Iterable[T], total: int | None, desc: str) -> Iterator[T]:
    with _bar(total, desc) as advance:
        for thing in things:
            advance()
            yield thing


@contextmanager
def _bar(total: int | None, desc: str) -> Iterator[Callable[[], None]]:
    if notebook.in_notebook():
        with _notebook_bar(total, desc) as advance:
            yield advance
    elif sys.stderr is not None and sys.stderr.isatty():
        with _terminal_bar(total, desc) as advance:
            yield advance
    else:
        yield _nothing


@contextmanager
def _terminal_bar(total: int | None, desc: str) -> Iterator[Callable[[], None]]:
    # Where nothing is drawn, as in most programs that run by themselves, it need not be loaded (40 ms).
    from rich.console import Console  # noqa: PLC0415 - see above
    from rich.progress import (  # noqa: PLC0415 - see above
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (BarColumn(), MofNCompleteColumn()) if total is not None else (SpinnerColumn(), MofNCompleteColumn())
    words = (TextColumn("{task.description}"),) if desc else ()
    console = Console(file=sys.stderr)
    with Progress(*words, *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(desc, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def _notebook_bar(total: int | None, desc: str) -> Iterator[Callable[[], None]]:
    handle = notebook.show(notebook.bar_html(done=0, total=total, text=desc))
    done, drawn_at = 0, time.monotonic()

    def advance() -> None:
        nonlocal done, drawn_at
        done += 1
        now = time.monotonic()
        if now - drawn_at >= REDRAW_S:
            drawn_at = now
            notebook.update(handle, notebook.bar_html(done=done, total=total, text=desc))

    try:
        yield advance
    finally:
        notebook.update(handle, notebook.bar_html(done=done, total=total, text=desc))


def _nothing() -> None:
    """Draw nothing."""

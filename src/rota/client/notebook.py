"""What notebooks show: small pieces of HTML, made of plain values, with everything in them escaped.

Clients, futures and jobs hand over what they know; bars of `rota.client.progress` are drawn here, too. The
styles use the page's own colours, so that they can be read on dark and on light ones.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

__all__ = ["bar_html", "card_html", "client_html", "future_html", "in_notebook", "job_html", "show", "update"]

_COLOURS: Final[Mapping[str, str]] = {
    "pending": "#888",
    "assigned": "#888",
    "running": "#1f77b4",
    "completed": "#2ca02c",
    "failed": "#d62728",
    "cancelled": "#9467bd",
}
_STATES: Final = tuple(_COLOURS)


def in_notebook() -> bool:
    """Whether this program runs in a notebook, where HTML is shown."""
    if "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None


def client_html(
    *, url: str, nodes: Sequence[tuple[str, str]] = (), waiting: int | None = None, is_closed: bool = False
) -> str:
    """A client: where it is connected to, and which workers it knows.

    Args:
        url: Of the coordinator.
        nodes: (id, Python version) of each worker.
        waiting: How many of its tasks have not ended.
        is_closed: Whether it was shut down.
    """
    rows = [("coordinator", url), ("workers", ", ".join(f"{name} (Python {python})" for name, python in nodes))]
    if waiting is not None:
        rows.append(("open tasks", f"{waiting:,}"))
    return card_html("rota.Client", "closed" if is_closed else "", rows)


def future_html(
    *, id: str | None, state: str, callable: str = "", worker: str | None = None, message: str | None = None
) -> str:
    """A future: the task behind it and how it stands.

    Args:
        id: What the task is called, once that is known.
        state: ``pending``, ``running``, ``completed`` and so on.
        callable: The name of the function.
        worker: Where it ran.
        message: Why it failed, in one line.
    """
    rows = [("task", id), ("function", callable), ("worker", worker), ("message", message)]
    return card_html("rota.Future", state, rows)


def job_html(*, name: str, counts: Mapping[str, int]) -> str:
    """A job: how many of its tasks are in each state, and how much of it is done.

    Args:
        name: Of the job.
        counts: Tasks by the names of their states.
    """
    total = sum(counts.values())
    ended = sum(counts.get(state, 0) for state in ("completed", "failed", "cancelled"))
    rows = [(state, f"{counts[state]:,}") for state in _STATES if counts.get(state)]
    return card_html("rota.Job", name, rows) + bar_html(done=ended, total=total)


def card_html(title: str, state: str, rows: Sequence[tuple[str, str | None]]) -> str:
    """A title with a word beside it, and a table of two columns; rows without a value are left out."""
    colour = _COLOURS.get(state, "inherit")
    cells = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in rows
        if value
    )
    word = f' <span style="color:{colour}">{escape(state)}</span>' if state else ""
    return f"<div><b>{escape(title)}</b>{word}<table>{cells}</table></div>"


def bar_html(*, done: int, total: int | None, text: str = "") -> str:
    """A bar, filled as far as things are done; without a total the count alone."""
    share = f"{done:,}" if total is None else f"{done:,} of {total:,}"
    label = escape(f"{text}: {share}" if text else share)
    if not total:
        return f"<div>{label}</div>"
    return f'<div><progress value="{done}" max="{total}" style="width:20em"></progress> {label}</div>'


def show(html: str) -> Any:  # IPython's handle of what is shown, which has `update`
    """Show HTML in the notebook."""
    display = sys.modules["IPython"].display
    return display.display(display.HTML(html), display_id=True)


def update(handle: Any, html: str) -> None:  # as above
    """Show something else in its place."""
    handle.update(sys.modules["IPython"].display.HTML(html))

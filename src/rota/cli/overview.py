"""What `rota top` shows: a coordinator's counts, its workers, what runs and why the rest waits, at one moment.

`look` asks, `sections_of` turns the answers into tables, without a terminal, so that both can be tried alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from rota.cli.ps import took
from rota.cli.text import duration, quantity
from rota.cli.views import ShownNode, ShownStats, ShownTask, view_of

if TYPE_CHECKING:
    from rota.client.http import HttpClient

__all__ = ["FRAME_LINES", "Glance", "Section", "head_of", "look", "sections_of"]

TASKS_MAX: Final = 200
"""Asked for, of each state: more than any screen has room for."""

FRAME_LINES: Final = 9
"""Of a screen: the head, the titles and what is between them."""

WORKERS_PART: Final = 0.35
WAITING_PART: Final = 0.25
"""Of the lines that are left; what runs has the rest."""

BAR_CELLS: Final = 20


class Glance(NamedTuple):
    """What there was when we looked, at ``now`` (wall clock)."""

    url: str
    now: float
    stats: ShownStats
    nodes: list[ShownNode]
    running: list[ShownTask]
    pending: list[ShownTask]


class Section(NamedTuple):
    """A table, and the columns that it can shorten or do without."""

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, ...]]
    wide: Sequence[str]
    spare: Sequence[str] = ()


def look(client: HttpClient, url: str, *, now: float) -> Glance:
    """Ask the coordinator for all that is shown."""

    def tasks(state: str) -> list[ShownTask]:
        pages = client.tasks({"state": (state,), "limit": TASKS_MAX})
        return [view_of(task, ShownTask) for task in next(pages, [])]

    stats = view_of(client.stats(), ShownStats)
    nodes = [view_of(node, ShownNode) for node in client.nodes()]
    return Glance(url, now, stats, nodes, tasks("running"), tasks("pending"))


def head_of(glance: Glance) -> Iterator[str]:
    """The lines above the tables: where, how much, how fast, how full."""
    stats = glance.stats
    yield f"rota {stats.version} at {glance.url}, up {duration(stats.uptime)}"
    counts = ", ".join(f"{count:,} {state}" for state, count in stats.tasks.items() if count)
    rates = "".join(f", {rate:g}/s {name}" for name, rate in sorted(stats.rates.items()) if rate)
    yield f"tasks: {counts or 'none'}{rates}"
    for name in sorted(stats.capacity, key=lambda name: (name != "cpu", name != "memory", name)):
        used, total = stats.used.get(name, 0), stats.capacity[name]
        yield f"{name + ':':<7} {_bar(used, total)} {quantity(name, used)} of {quantity(name, total)} reserved"


def sections_of(glance: Glance, *, lines: int) -> list[Section]:
    """The tables that fit into a screen of so many lines; each says how much it leaves out."""
    room = max(3, lines - FRAME_LINES)
    workers = max(1, int(room * WORKERS_PART))
    waiting = max(1, int(room * WAITING_PART))
    # What one does not need, another has.
    running = max(1, room - min(workers, len(glance.nodes)) - min(waiting, len(glance.stats.reasons)))
    return [_workers(glance, workers), _running(glance, running), _waiting(glance, waiting)]


def _workers(glance: Glance, lines: int) -> Section:
    """The fullest first, but before them those that don't take part."""
    nodes = sorted(glance.nodes, key=lambda node: (node.state == "online", -_fullness(node), node.id))
    rows = [
        (
            node.id,
            node.state,
            str(node.tasks),
            f"{quantity('cpu', node.used.get('cpu', 0))}/{quantity('cpu', node.resources.get('cpu', 0))}",
            f"{node.usage.cpu_percent:.0f}%" if node.usage else "",
            f"{quantity('memory', node.usage.memory_used)}/{quantity('memory', node.usage.memory_total)}"
            if node.usage
            else "",
            ",".join(node.tags),
        )
        for node in nodes[:lines]
    ]
    columns = ("WORKER", "STATE", "TASKS", "CORES", "BUSY", "MEMORY USED", "TAGS")
    return Section(_title("workers", len(rows), len(nodes)), columns, rows, ("TAGS",), ("TAGS", "MEMORY USED"))


def _running(glance: Glance, lines: int) -> Section:
    rows = [
        (task.id, task.title, task.queue, task.worker or "", str(task.attempt), took(task, glance.now), task.why)
        for task in glance.running[:lines]
    ]
    columns = ("RUNNING", "TASK", "QUEUE", "WORKER", "ATTEMPT", "FOR", "PROGRESS")
    title = _title("running, the newest first", len(rows), glance.stats.tasks.get("running", len(rows)))
    return Section(title, columns, rows, ("TASK", "PROGRESS"), ("ATTEMPT", "QUEUE", "WORKER"))


def _waiting(glance: Glance, lines: int) -> Section:
    """Each reason with one task that waits for it: its sentence mostly holds for all of them."""
    examples = {task.reason: task for task in glance.pending}
    reasons = sorted(((count, reason) for reason, count in glance.stats.reasons.items() if count), reverse=True)
    rows = []
    for count, reason in reasons[:lines]:
        task = examples.get(reason)
        rows.append((f"{count:,}", reason, task.id if task else "", (task.reason_text or "") if task else ""))
    total = glance.stats.tasks.get("pending", 0)
    return Section(f"waiting: {total:,}", ("WAITING", "FOR", "SUCH AS", "WHY"), rows, ("WHY",))


def _fullness(node: ShownNode) -> float:
    total = node.resources.get("cpu", 0)
    return node.used.get("cpu", 0) / total if total else 0.0


def _title(what: str, shown: int, total: int) -> str:
    return f"{what}: {shown:,} of {total:,}" if shown < total else f"{what}: {total:,}"


def _bar(used: int, total: int) -> str:
    """Draw a share.

    >>> _bar(1, 4), _bar(0, 0)
    ('[#####               ]', '[                    ]')
    """
    cells = round(BAR_CELLS * min(1.0, used / total)) if total else 0
    return f"[{'#' * cells:<{BAR_CELLS}}]"

"""What `rota bench` has measured, and what that means in words.

Pure: figures in, sentences out. A sentence stands on figures that are there; nothing is said of what was not measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from rota.cli.text import duration

__all__ = ["Figures", "Times", "WorkerFigures", "milliseconds", "per_second", "verdicts"]

PROTOCOL_COMMITS: Final = 2
"""That a task waits for on its way: the one with its acceptance, and the one with its end."""

CROSSINGS: Final = 2
"""Requests of one task that is submitted and waited for."""

MOST: Final = 0.5
"""The part of a whole from which on something is named as what is waited for."""

FULL: Final = 0.8
"""The part of its time from which on something that works counts as having no more to give."""

TIMES_MORE: Final = 2.0
"""From here on a ratio is worth a word."""

UNLIKE: Final = 1.5
"""How many times slower than another a worker is that gets a word."""

WORK_PART: Final = 0.9
"""Of a worker's time: what is called worth it."""


class Times(Struct, frozen=True, kw_only=True):
    """How long something took, over ``count`` times, in milliseconds."""

    count: int
    median_ms: float
    p99_ms: float


class WorkerFigures(Struct, frozen=True, kw_only=True):
    """What one worker did of many commands; ``command_ms`` is the mean from start to end of one."""

    id: str
    commands: int
    command_ms: float


class Figures(Struct, kw_only=True):
    """What was measured. A figure that is missing is ``None``: it could not be had, or the time was over.

    ``cores`` is what the workers offer, ``at_once`` how many tasks of a core run at once. ``loop_busy`` is the part of
    its time that the coordinator's loop worked, ``workers_busy`` that of the cores in which a program ran, both while
    many commands did.
    """

    run: str
    url: str
    workers: int
    cores: float
    at_once: int
    tasks: int = 0
    seconds: float = 0.0
    request: Times | None = None
    submit: Times | None = None
    round_trip: Times | None = None
    program_ms: float | None = None
    commit_ms: float | None = None
    submits_per_second: float | None = None
    commands_per_second: float | None = None
    loop_busy: float | None = None
    workers_busy: float | None = None
    by_worker: list[WorkerFigures] = []
    function_round_trip: Times | None = None
    functions_per_second: float | None = None
    output_mb_per_second: float | None = None
    left_out: list[str] = []


def milliseconds(value_ms: float) -> str:
    """Return a time with two digits that matter.

    >>> [milliseconds(value) for value in (0.123, 4.06, 31.4, 250.0, 1500.0)]
    ['0.12 ms', '4.1 ms', '31 ms', '250 ms', '1.5s']
    """
    if value_ms >= 1000:
        return duration(value_ms / 1000)
    return f"{value_ms:.0f} ms" if value_ms >= 10 else f"{value_ms:.{1 if value_ms >= 1 else 2}f} ms"


def per_second(rate: float) -> str:
    """Return a rate with two or three digits that matter.

    >>> [per_second(rate) for rate in (0.52, 31.44, 640.2, 21034.0)]
    ['0.5/s', '31/s', '640/s', '21,000/s']
    """
    if rate >= 1000:
        return f"{round(rate, -2):,.0f}/s"
    return f"{rate:.0f}/s" if rate >= 10 else f"{rate:.1f}/s"


def verdicts(figures: Figures) -> list[str]:
    """Return what the figures mean, a sentence or two each, the most useful first."""
    return [
        *_worth(figures),
        *_functions(figures),
        *_one_task(figures),
        *_submitting(figures),
        *_limit(figures),
        *_workers(figures),
    ]


def _worth(figures: Figures) -> Iterator[str]:
    """From what length on a task is worth being one."""
    cost_ms = _cost_ms(figures, figures.commands_per_second)
    if cost_ms is None:
        return
    worth_ms = cost_ms * WORK_PART / (1 - WORK_PART)
    yield (
        f"A command costs about {milliseconds(cost_ms)} of a core. Shorter ones are mostly overhead: put several into "
        f"one task. From {milliseconds(worth_ms)} on, nine tenths of the time is work."
    )


def _functions(figures: Figures) -> Iterator[str]:
    command_ms = _cost_ms(figures, figures.commands_per_second)
    function_ms = _cost_ms(figures, figures.functions_per_second)
    if function_ms is None:
        return
    text = f"A Python function costs {milliseconds(function_ms)} of a core"
    if command_ms is None or command_ms < TIMES_MORE * function_ms:
        yield f"{text}."
        return
    yield (
        f"{text}, {command_ms / function_ms:.0f} times less than a command: have short Python work run as functions, "
        "with rota.Client."
    )


def _one_task(figures: Figures) -> Iterator[str]:
    """Where the time of a task goes that is waited for, and what would shorten it."""
    if figures.round_trip is None:
        return
    whole_ms = figures.round_trip.median_ms
    parts = dict(_parts(figures))
    text = f"One command, submitted and waited for, takes {milliseconds(whole_ms)}"
    if parts:
        listed = [f"{milliseconds(value_ms)} for {what}" for what, value_ms in parts.items()]
        text += f", of that about {_listed(listed)}"
    yield f"{text}."
    if parts.get(_COMMITS, 0.0) >= MOST * whole_ms:
        yield (
            "The store's disk is the bottleneck of single tasks: a commit takes "
            f"{milliseconds(parts[_COMMITS] / PROTOCOL_COMMITS)}. "
            "A faster disk under --state-dir helps, or --durability relaxed where a power cut may take the last "
            "moments; tasks that come together share a commit."
        )
    elif parts.get(_WAY, 0.0) >= MOST * whole_ms:
        yield (
            "The way to the coordinator is what a single task waits for: submit from nearer to it, or many in one "
            "request."
        )


_COMMITS: Final = "the two commits of the store"
_WAY: Final = "two requests there and back"
_PROGRAM: Final = "the program, from start to end"


def _parts(figures: Figures) -> Iterator[tuple[str, float]]:
    if figures.commit_ms is not None:
        yield _COMMITS, PROTOCOL_COMMITS * figures.commit_ms
    if figures.program_ms is not None:
        yield _PROGRAM, figures.program_ms
    if figures.request is not None:
        yield _WAY, CROSSINGS * figures.request.median_ms


def _submitting(figures: Figures) -> Iterator[str]:
    if figures.submit is None or figures.submits_per_second is None:
        return
    alone, together = 1000 / figures.submit.median_ms, figures.submits_per_second
    if together >= TIMES_MORE * alone:
        yield (
            f"Submitted one by one, {per_second(alone)} are accepted, many in one request {per_second(together)}: "
            f"{together / alone:.0f} times as many. Use 'rota submit --from', or an array in one POST."
        )


def _limit(figures: Figures) -> Iterator[str]:
    """What keeps the cluster from doing more commands a second."""
    if figures.commands_per_second is None:
        return
    rate = per_second(figures.commands_per_second)
    if figures.loop_busy is not None and figures.loop_busy >= FULL:
        yield (
            f"At {rate} the coordinator's loop works {figures.loop_busy:.0%} of the time: it is the limit, and more "
            "workers would bring no more tasks a second."
        )
    elif figures.workers_busy is not None and figures.workers_busy >= FULL:
        yield (
            f"At {rate} programs run on {figures.workers_busy:.0%} of the {figures.cores:g} cores: the workers are the "
            "limit, and more cores should bring more tasks a second."
        )
    elif figures.loop_busy is not None and figures.workers_busy is not None:
        yield (
            f"At {rate} the coordinator's loop works {figures.loop_busy:.0%} of the time, and programs run on "
            f"{figures.workers_busy:.0%} of the {figures.cores:g} cores: neither is full."
        )


def _workers(figures: Figures) -> Iterator[str]:
    """Whether all workers took part, and whether one is slower than the others."""
    measured = sorted(figures.by_worker, key=lambda worker: worker.command_ms)
    if 0 < len(measured) < figures.workers:
        yield f"Of {figures.workers} workers only {len(measured)} got any of the many commands."
    if len(measured) < 2:
        return
    quickest, slowest = measured[0], measured[-1]
    if slowest.command_ms >= UNLIKE * quickest.command_ms:
        yield (
            f"Worker {slowest.id} needs {milliseconds(slowest.command_ms)} for a command, {quickest.id} "
            f"{milliseconds(quickest.command_ms)}: see what else it does ('rota nodes' shows its load)."
        )
    else:
        yield (
            f"The {len(measured)} workers are alike: from {milliseconds(quickest.command_ms)} to "
            f"{milliseconds(slowest.command_ms)} for a command."
        )


def _cost_ms(figures: Figures, rate: float | None) -> float | None:
    """Milliseconds of a core that a task takes which does nothing."""
    return 1000 * figures.at_once / rate if rate else None


def _listed(parts: Sequence[str]) -> str:
    """Return parts with commas, and an ``and``.

    >>> _listed(["a"]), _listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last

"""Runs of the simulator for people: one at length, several as a table; and for programs, as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import click
import msgspec

from rota.cli.table import print_table
from rota.cli.text import duration, escaped
from rota.simulator.columns import Plight
from rota.simulator.history import History
from rota.simulator.report import Distribution, RunReport
from rota.simulator.runs import Finished

__all__ = ["show"]

COLUMNS: Final = (
    "PLACEMENT", "ORDERING", "WAIT", "WAIT-P95", "SLOWDOWN", "MAKESPAN", "CPU", "WORKERS", "FAIRNESS", "PREEMPTED",
    "LOST",
)  # fmt: skip


QUEUE_COLUMNS: Final = ("PLACEMENT", "ORDERING", "QUEUE", "TASKS", "WAIT", "CORE-HOURS")


def show(finished: Sequence[Finished], *, history: History | None, as_json: bool) -> None:
    """Print reports, that of a history first: one at length, several as a table, all as JSON."""
    reports = [each.report for each in finished]
    if history is not None:
        reports = [history.report, *reports]
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(reports if len(reports) > 1 else reports[0]), indent=2))
    elif len(reports) > 1:
        print_table(COLUMNS, [_row(report) for report in reports], spare=("PREEMPTED", "LOST", "FAIRNESS"))
        if any(len(report.queues) > 1 for report in reports):
            click.echo()
            print_table(QUEUE_COLUMNS, [row for report in reports for row in _queue_rows(report)])
        for report in reports:
            for what, plight in _plights(report):
                same = report.ordering == report.placement  # of what really was, which had no policies that we know of
                name = report.placement if same else f"{report.ordering}:{report.placement}"
                click.echo(f"{escaped(name)}: {what} {_told(plight)}", err=True)
    else:
        for line in _lines(reports[0]):
            click.echo(line)
    if history is not None and history.left_out:
        click.echo(
            f"{history.left_out:,} tasks of the history never ran or have not ended: they are left out",
            err=True,
        )


def _row(report: RunReport) -> list[str]:
    return [
        escaped(report.placement),
        escaped(report.ordering),
        duration(report.waiting_s.mean),
        duration(report.waiting_s.p95),
        f"{report.slowdown.mean:.2f}",
        duration(report.makespan_s),
        f"{100 * report.utilisation:.1f}%",
        f"{report.workers_in_use:,.1f}",
        "-" if report.fairness is None else f"{report.fairness:.3f}",
        f"{report.preemptions:,}",
        duration(sum(report.lost_work_s.values())),
    ]


def _queue_rows(report: RunReport) -> Iterator[list[str]]:
    for queue in report.queues:
        waited, cores = duration(queue.waiting_mean_s), f"{queue.core_s / 3600:,.2f}"
        yield [escaped(report.placement), report.ordering, escaped(queue.name), f"{queue.tasks:,}", waited, cores]


def _lines(report: RunReport) -> Iterator[str]:
    yield (
        f"{report.workers:,} workers, {report.tasks:,} tasks in {duration(report.makespan_s)} of their time "
        f"(placement {escaped(report.placement)}, ordering {report.ordering}, seed {report.seed})"
    )
    yield f"  ended        {report.completed:,} completed, {report.failed:,} failed, {report.cancelled:,} cancelled"
    if report.unfinished:
        waits = sum(plight.tasks for plight in report.waits)
        yield f"  not ended    {report.unfinished:,}: {waits:,} wait, {report.unfinished - waits:,} run or are about to"
    for what, plight in _plights(report):
        yield f"  {what:<12} {_told(plight)}"
    yield f"  waiting      {_spread(report.waiting_s, duration)}"
    yield f"  slowdown     {_spread(report.slowdown, lambda factor: f'{factor:.2f}')}"
    yield (
        f"  utilisation  {100 * report.utilisation:.1f} % of the cores; "
        f"{report.workers_in_use:,.1f} of {report.workers:,} workers in use on average"
    )
    if report.fairness is not None:
        yield f"  fairness     {report.fairness:.3f} (Jain's index of what queues got of their share)"
    if len(report.queues) > 1:
        for queue in report.queues:
            yield (
                f"    {escaped(queue.name)}: {queue.tasks:,} tasks, waited {duration(queue.waiting_mean_s)} "
                f"on average, got {queue.core_s / 3600:,.2f} core hours"
            )
    if report.preemptions:
        yield f"  preempted    {report.preemptions:,} attempts"
    for cause, seconds in report.lost_work_s.items():
        yield f"  in vain      {duration(seconds)} of attempts that ended as {cause}"


def _plights(report: RunReport) -> Iterator[tuple[str, Plight]]:
    yield from (("failed", plight) for plight in report.failures)
    yield from (("wait for", plight) for plight in report.waits)


def _told(plight: Plight) -> str:
    example = f"; the first: {escaped(plight.example)}" if plight.example else ""
    return f"{plight.why}: {plight.tasks:,}{example}"


def _spread(spread: Distribution, shown: Callable[[float], str]) -> str:
    return (
        f"mean {shown(spread.mean)}, half {shown(spread.p50)}, 95 % {shown(spread.p95)}, 99 % {shown(spread.p99)}, "
        f"longest {shown(spread.max)}"
    )

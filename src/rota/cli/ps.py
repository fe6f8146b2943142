"""``rota ps``: lists tasks, newest first."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import click

from rota.cli.choosing import matching_tasks, task_filters
from rota.cli.options import json_option, print_json_array, with_client
from rota.cli.table import print_table
from rota.cli.text import ago, duration, seconds_since
from rota.cli.views import ShownAttempt, ShownTask, view_of

if TYPE_CHECKING:
    from rota.client.http import HttpClient, Json

__all__ = ["command", "took"]

COLUMNS: Final = ("ID", "STATE", "TASK", "WORKER", "ATTEMPT", "TOOK", "CREATED", "WHY")

FLEXIBLE: Final = ("TASK", "WHY")
SPARE: Final = ("CREATED", "ATTEMPT", "TOOK", "WORKER")
"""What a narrow terminal does without, in this order: the rest identifies a task."""

LIMIT: Final = 50
"""About what fits on a screen; --all has the rest."""


@click.command(
    epilog="""Examples:

    \b
    rota ps --state failed --since 1h
    rota ps --cause oom --label job=sweep
    rota ps --name 'nightly-*' --json | jq -r '.[].id'
    """
)
@click.option("-n", "--limit", type=click.IntRange(min=1), default=LIMIT, show_default=True, help="At most so many.")
@click.option("-a", "--all", "is_unlimited", is_flag=True, help="All that the coordinator keeps.")
@task_filters
@json_option
@with_client
def command(client: HttpClient, /, *, limit: int, is_unlimited: bool, as_json: bool, **filters: Any) -> None:
    """List tasks, newest first. Of several filters all must hold."""
    tasks = matching_tasks(client, filters, limit=None if is_unlimited else limit + 1)
    shown = tasks if is_unlimited else itertools.islice(tasks, limit)
    if as_json:
        print_json_array(shown)
    else:
        print_tasks(shown)
    if not is_unlimited and next(tasks, None) is not None:
        click.echo(f"rota: these are the newest {limit}; --all lists all", err=True)


def print_tasks(tasks: Iterable[Json]) -> None:
    """Print tasks as a table."""
    now = time.time()
    print_table(COLUMNS, (_row(view_of(task, ShownTask), now) for task in tasks), wide=FLEXIBLE, spare=SPARE)


def _row(task: ShownTask, now: float) -> tuple[str, ...]:
    return (
        task.id,
        task.state,
        task.title,
        task.worker or "",
        str(task.attempt or ""),
        took(task, now),
        ago(task.created_at, now),
        task.why,
    )


def took(task: ShownTask | ShownAttempt, now: float) -> str:
    """Say how long the last attempt has run, or ran; empty if it has not started."""
    if not task.started_at:
        return ""
    until = seconds_since(task.ended_at, now) if task.ended_at else 0.0
    return duration(seconds_since(task.started_at, now) - until)

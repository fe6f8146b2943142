"""``rota ps``: lists tasks, newest first."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from rota.cli import completing, options
from rota.cli.amounts import parse_since
from rota.cli.options import json_option, print_json_array, with_client
from rota.cli.table import print_table
from rota.cli.text import ago, duration, seconds_since
from rota.cli.views import ShownAttempt, ShownTask, view_of

if TYPE_CHECKING:
    from rota.client.http import HttpClient, Json

__all__ = ["command", "matching_tasks", "task_filters", "took"]

F = TypeVar("F", bound=Callable[..., None])

COLUMNS: Final = ("ID", "STATE", "TASK", "WORKER", "ATTEMPT", "TOOK", "CREATED", "WHY")

FLEXIBLE: Final = ("TASK", "WHY")
SPARE: Final = ("CREATED", "ATTEMPT", "TOOK", "WORKER")
"""What a narrow terminal does without, in this order: the rest identifies a task."""

LIMIT: Final = 50
"""About what fits on a screen; --all has the rest."""

PAGE_TASKS_MAX: Final = 1000
"""The most that the API gives at once."""

STATES: Final = ("pending", "assigned", "running", "completed", "failed", "cancelled")

_FILTERS: Final = (
    click.option("--state", multiple=True, type=click.Choice(STATES), help="In this state. Repeat for more."),
    click.option("--queue", shell_complete=completing.queues(), help="In this queue."),
    click.option("--name", help="Of this name; a prefix if it ends in *."),
    click.option("-l", "--label", type=options.PAIR_TEXT, multiple=True, help="With this label. Repeat for more."),
    click.option("--worker", shell_complete=completing.workers(), help="On this worker."),
    click.option("--since", metavar="TIME|AGO", help="Created since then: 1h, 2d or 2030-01-31T12:00:00Z."),
)


def task_filters(function: F) -> F:
    """Give a command the options that choose tasks."""
    for option in reversed(_FILTERS):
        function = option(function)
    return function


@click.command(
    epilog="""Examples:

    \b
    rota ps --state failed --since 1h
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


def matching_tasks(client: HttpClient, filters: dict[str, Any], *, limit: int | None) -> Iterator[Json]:
    """Yield tasks, newest first, page by page as they are asked for.

    Args:
        client: The coordinator.
        filters: The values of `task_filters`.
        limit: How many are wanted at most; ``None`` for all.
    """
    try:
        since = parse_since(filters["since"], now=time.time()) if filters["since"] else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since") from error
    page_limit = min(limit or PAGE_TASKS_MAX, PAGE_TASKS_MAX)
    for page in client.tasks({**filters, "since": since, "limit": page_limit}):
        yield from page


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

"""Choosing tasks: by their ids, or by what they have in common.

What `ps` lists by filters, `cancel`, `retry`, `wait` and `fetch` act on by the same ones: who has found the right
tasks has them. Without ids and without filters nothing is chosen, so that no slip means everything.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

from rota.cli import completing, options
from rota.cli.amounts import parse_since
from rota.cli.options import ID

if TYPE_CHECKING:
    from rota.client.http import HttpClient, Json

__all__ = ["CAUSES", "OPEN_STATES", "Choice", "matching_tasks", "task_choice", "task_filters"]

F = TypeVar("F", bound=Callable[..., None])

OPEN_STATES: Final = ("pending", "assigned", "running")
STATES: Final = (*OPEN_STATES, "completed", "failed", "cancelled")

CAUSES: Final = (
    "exit",
    "error",
    "signal",
    "timeout",
    "oom",
    "launch-error",
    "worker-lost",
    "agent-error",
    "impossible",
    "expired",
    "gang",
    "cancelled",
)
"""Why tasks end that did not complete: those that people look for."""

PAGE_TASKS_MAX: Final = 1000
"""The most that the API gives at once."""

_FILTERS: Final = (
    click.option("--state", multiple=True, type=click.Choice(STATES), help="In this state. Repeat for more."),
    click.option(
        "--cause",
        metavar="CAUSE",
        multiple=True,
        type=click.Choice(CAUSES),
        help="Ended for this cause: oom, exit, timeout, … Repeat for more.",
    ),
    click.option("--queue", shell_complete=completing.queues(), help="In this queue."),
    click.option("--name", help="Of this name; a prefix if it ends in *."),
    click.option("-l", "--label", type=options.PAIR_TEXT, multiple=True, help="With this label. Repeat for more."),
    click.option("--worker", shell_complete=completing.workers(), help="On this worker."),
    click.option("--since", metavar="TIME|AGO", help="Created since then: 1h, 2d or 2030-01-31T12:00:00Z."),
)


FILTER_NAMES: Final = ("state", "cause", "queue", "name", "label", "worker", "since")


def task_filters(function: F) -> F:
    """Give a command the options that choose tasks."""
    for option in reversed(_FILTERS):
        function = option(function)
    return function


class Choice(NamedTuple):
    """Which tasks a command is for: ``ids``, or the values of `task_filters`; never both, never neither."""

    ids: tuple[str, ...]
    filters: dict[str, Any]

    @property
    def is_bulk(self) -> bool:
        """Whether they are named by what they have in common."""
        return not self.ids

    def tasks(self, client: HttpClient) -> list[Json]:
        """All of them, the oldest first or as they were named; one that was named twice is there once.

        All at once, because pages move while tasks leave the state that is asked for.
        """
        if self.is_bulk:
            return list(matching_tasks(client, self.filters))[::-1]
        return [client.task(task_id) for task_id in dict.fromkeys(self.ids)]

    def task_ids(self, client: HttpClient) -> list[str]:
        """Their ids; those that were named are not asked for."""
        return [str(task["id"]) for task in self.tasks(client)] if self.is_bulk else list(dict.fromkeys(self.ids))


def task_choice(*states: str, example: str) -> Callable[[F], F]:
    """Give a command ids and the options that choose tasks, and hand it a `Choice` made of them as ``choice``.

    Args:
        states: Of the tasks whose ids a shell offers.
        example: Of a filter, for those who give nothing.
    """

    def decorate(function: F) -> F:
        @click.argument("ids", metavar="[ID]...", type=ID, nargs=-1, shell_complete=completing.tasks(*states))
        @task_filters
        @functools.wraps(function)
        def with_choice(*arguments: Any, ids: tuple[str, ...], **params: Any) -> None:  # of any command
            filters = {name: params.pop(name) for name in FILTER_NAMES}
            if bool(ids) == any(filters.values()):
                raise click.UsageError(f"give ids, or filters such as {example}{', not both' if ids else ''}")
            function(*arguments, choice=Choice(ids, filters), **params)

        return with_choice  # type: ignore[return-value]  # the same to click, but for the options

    return decorate


def matching_tasks(client: HttpClient, filters: dict[str, Any], *, limit: int | None = None) -> Iterator[Json]:
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
    causes = frozenset(filters["cause"])
    query = {name: value for name, value in filters.items() if name != "cause"}
    if causes and not query["state"]:
        # Only what has ended has a cause, and the coordinator finds that by its state.
        query["state"] = ("failed", "cancelled")
    # With causes a page holds others, too: whole pages are quicker than many small ones.
    page_limit = PAGE_TASKS_MAX if causes else min(limit or PAGE_TASKS_MAX, PAGE_TASKS_MAX)
    for page in client.tasks({**query, "since": since, "limit": page_limit}):
        yield from (task for task in page if not causes or task.get("cause") in causes)

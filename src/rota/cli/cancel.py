"""``rota cancel``: wishes the end of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rota.cli.bulk import change_each
from rota.cli.choosing import OPEN_STATES, Choice, task_choice
from rota.cli.options import json_option, with_client

if TYPE_CHECKING:
    from rota.client.http import HttpClient

__all__ = ["command"]


@click.command(
    epilog="""Examples:

    \b
    rota cancel t17 t18
    rota cancel --label job=sweep
    rota cancel --queue batch --state pending
    """
)
@task_choice(*OPEN_STATES, example="--label job=sweep")
@json_option
@with_client
def command(client: HttpClient, /, *, choice: Choice, as_json: bool) -> None:
    """Cancel tasks. A running one is ended with SIGTERM, and with SIGKILL if that does not help.

    Give ids, or filters for all tasks that match them and have not ended; of several filters all must hold. A task
    that has ended already stays as it is.
    """
    if choice.is_bulk:
        choice = _of_open_ones(choice)
    ids = choice.task_ids(client)
    count = change_each(ids, client.cancel, as_json=as_json, describe=lambda task: f"{task['id']} {_outcome(task)}")
    if choice.is_bulk and not as_json:
        click.echo(f"rota: {count} cancelled" if count else "rota: no task matches that has not ended", err=True)


def _of_open_ones(choice: Choice) -> Choice:
    """Leave out what has ended. Filters that only such tasks match are a mistake: there is nothing to cancel."""
    states = choice.filters["state"]
    if choice.filters["cause"] or set(states) - set(OPEN_STATES):
        raise click.UsageError("what has ended can't be cancelled: --state is pending, assigned or running")
    return Choice((), {**choice.filters, "state": states or OPEN_STATES})


def _outcome(task: dict[str, object]) -> str:
    if task["state"] in {"completed", "failed"}:
        return f"had {task['state']} before"
    return "is cancelled" if task["state"] == "cancelled" else "is being cancelled"

"""``rota retry``: brings failed or cancelled tasks back, by their ids or by what they have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from rota.cli.bulk import change_each
from rota.cli.choosing import Choice, task_choice
from rota.cli.options import json_option, with_client

if TYPE_CHECKING:
    from rota.client.http import HttpClient

__all__ = ["command"]

RETRYABLE_STATES: Final = ("failed", "cancelled")


@click.command(
    epilog="""Examples:

    \b
    rota retry t17 t18
    rota retry --state failed --since 1h
    rota retry --cause oom --cause worker-lost --label job=sweep
    """
)
@task_choice(*RETRYABLE_STATES, example="--state failed")
@json_option
@with_client
def command(client: HttpClient, /, *, choice: Choice, as_json: bool) -> None:
    """Bring failed or cancelled tasks back: same ids, next attempts, fresh budgets.

    Give ids, or filters for all tasks that match them; of several filters all must hold.
    """
    if choice.is_bulk:
        states = set(choice.filters["state"])
        if states - set(RETRYABLE_STATES) or not (states or choice.filters["cause"]):
            raise click.UsageError("say which: --state failed, --state cancelled, or both")
    ids = choice.task_ids(client)
    count = change_each(ids, client.retry, as_json=as_json, describe=lambda task: f"{task['id']} is {task['state']}")
    if choice.is_bulk and not as_json:
        click.echo(f"rota: {count} brought back", err=True)

"""``rota retry``: brings failed or cancelled tasks back, by their ids or by what they have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from rota.cli import completing
from rota.cli.bulk import change_each
from rota.cli.options import ID, json_option, with_client
from rota.cli.ps import matching_tasks, task_filters

if TYPE_CHECKING:
    from rota.client.http import HttpClient

__all__ = ["command"]

RETRYABLE_STATES: Final = ("failed", "cancelled")


@click.command(
    epilog="""Examples:

    \b
    rota retry t17 t18
    rota retry --state failed --since 1h
    """
)
@click.argument("ids", metavar="[ID]...", type=ID, nargs=-1, shell_complete=completing.tasks(*RETRYABLE_STATES))
@task_filters
@json_option
@with_client
def command(client: HttpClient, /, *, ids: tuple[str, ...], as_json: bool, **filters: Any) -> None:
    """Bring failed or cancelled tasks back: same ids, next attempts, fresh budgets.

    Give ids, or filters for all tasks that match them; of several filters all must hold.
    """
    has_filters = any(filters.values())
    if bool(ids) == has_filters:
        raise click.UsageError("give ids, or filters such as --state failed")
    if not ids:
        wrong = set(filters["state"]) - set(RETRYABLE_STATES)
        if not filters["state"] or wrong:
            raise click.UsageError("say which: --state failed, --state cancelled, or both")
        # All of them first: pages move while tasks leave the state that is asked for.
        ids = tuple(str(task["id"]) for task in matching_tasks(client, filters, limit=None))
    count = change_each(ids, client.retry, as_json=as_json, describe=lambda task: f"{task['id']} is {task['state']}")
    if has_filters and not as_json:
        click.echo(f"rota: {count} brought back", err=True)

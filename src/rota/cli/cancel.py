"""``rota cancel``: wishes the end of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rota.cli import completing
from rota.cli.bulk import change_each
from rota.cli.options import ID, json_option, with_client

if TYPE_CHECKING:
    from rota.client.http import HttpClient

__all__ = ["command"]


@click.command(
    epilog="""Examples:

    \b
    rota cancel t17 t18
    rota ps --state pending --queue batch --json | jq -r '.[].id' | xargs -r rota cancel
    """
)
@click.argument(
    "ids",
    metavar="ID...",
    type=ID,
    nargs=-1,
    required=True,
    shell_complete=completing.tasks("pending", "assigned", "running"),
)
@json_option
@with_client
def command(client: HttpClient, *, ids: tuple[str, ...], as_json: bool) -> None:
    """Cancel tasks. A running one is ended with SIGTERM, and with SIGKILL if that does not help.

    A task that has ended already stays as it is.
    """
    change_each(ids, client.cancel, as_json=as_json, describe=lambda task: f"{task['id']} {_outcome(task)}")


def _outcome(task: dict[str, object]) -> str:
    if task["state"] in {"completed", "failed"}:
        return f"had {task['state']} before"
    return "is cancelled" if task["state"] == "cancelled" else "is being cancelled"

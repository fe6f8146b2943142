"""``rota drain``: gives workers nothing new."""

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
    rota drain w1 w2
    rota nodes --json | jq -r '.[].id' | xargs -r rota drain
    """
)
@click.argument(
    "ids",
    metavar="WORKER...",
    type=ID,
    nargs=-1,
    required=True,
    shell_complete=completing.workers("online", "suspicious"),
)
@json_option
@with_client
def command(client: HttpClient, *, ids: tuple[str, ...], as_json: bool) -> None:
    """Give workers nothing new. What they run goes on; 'rota resume' undoes it."""
    change_each(ids, client.drain, as_json=as_json, describe=lambda node: f"{node['id']} is {node['state']}")

"""``rota resume``: undoes a drain."""

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
    rota resume w1 w2
    rota nodes --json | jq -r '.[] | select(.drained).id' | xargs -r rota resume
    """
)
@click.argument(
    "ids",
    metavar="WORKER...",
    type=ID,
    nargs=-1,
    required=True,
    shell_complete=completing.workers("draining"),
)
@json_option
@with_client
def command(client: HttpClient, *, ids: tuple[str, ...], as_json: bool) -> None:
    """Undo a drain: give workers tasks again."""
    change_each(ids, client.resume, as_json=as_json, describe=lambda node: f"{node['id']} is {node['state']}")

"""``rota forget``: strikes off workers that are gone for good."""

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
    rota forget w3
    rota nodes --json | jq -r '.[] | select(.state == "offline").id' | xargs -r rota forget
    """
)
@click.argument(
    "ids",
    metavar="WORKER...",
    type=ID,
    nargs=-1,
    required=True,
    shell_complete=completing.workers("offline", "suspicious"),
)
@json_option
@with_client
def command(client: HttpClient, *, ids: tuple[str, ...], as_json: bool) -> None:
    """Strike off workers that are gone for good: nothing waits for them, and what they had runs elsewhere now.

    One that is offline goes by itself after a day. One that is connected is refused: drain and stop it first. Should
    one come back, it stops what it runs, and is as good as new.
    """
    change_each(ids, client.forget, as_json=as_json, describe=lambda node: f"{node['id']} is forgotten")

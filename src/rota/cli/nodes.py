"""``rota nodes``: lists workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from rota.cli.options import json_option, print_json_array, with_client
from rota.cli.table import print_table
from rota.cli.text import duration, memory
from rota.cli.views import ShownNode, view_of

if TYPE_CHECKING:
    from rota.client.http import HttpClient

__all__ = ["command"]

COLUMNS: Final = ("WORKER", "STATE", "TASKS", "CPU", "MEMORY", "GPUS", "LOAD", "SEEN", "TAGS", "HOST")


@click.command()
@json_option
@with_client
def command(client: HttpClient, *, as_json: bool) -> None:
    """List workers: what is reserved on each of what it offers."""
    nodes = client.nodes()
    if as_json:
        print_json_array(nodes)
        return
    print_table(COLUMNS, [_row(view_of(node, ShownNode)) for node in nodes], wide="TAGS")


def _row(node: ShownNode) -> tuple[str, ...]:
    return (
        node.id,
        node.state,
        str(node.tasks) + (f" ({node.quarantined_slots} slots lost)" if node.quarantined_slots else ""),
        f"{_cores(node.used.get('cpu', 0))}/{_cores(node.resources.get('cpu', 0))}",
        f"{memory(node.used.get('memory', 0))}/{memory(node.resources.get('memory', 0))}",
        str(len(node.gpus)),
        f"{node.usage.cpu_percent:.0f}%" if node.usage else "",
        f"{duration(node.last_seen)} ago" if node.last_seen is not None else "",
        ",".join(node.tags),
        node.addr or node.host,
    )


def _cores(milli: int) -> str:
    return f"{milli / 1000:g}"

"""``rota nodes``: lists workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from rota.cli.options import json_option, print_json_array, with_client
from rota.cli.table import print_table
from rota.cli.text import duration, quantity
from rota.cli.views import ShownNode, view_of

if TYPE_CHECKING:
    from rota.client.http import HttpClient

__all__ = ["command"]

COLUMNS: Final = (
    "WORKER",
    "STATE",
    "TASKS",
    "CPU",
    "MEMORY",
    "GPUS",
    "OTHER",
    "LOAD",
    "SEEN",
    "TAGS",
    "HOST",
    "PYTHON",
    "KIND",
)

OURS: Final = "rota"

FLEXIBLE: Final = ("TAGS", "OTHER")
SPARE: Final = ("PYTHON", "KIND", "LOAD", "SEEN", "HOST", "GPUS", "MEMORY", "OTHER", "TAGS")


@click.command(
    epilog="""Examples:

    \b
    rota nodes
    rota nodes --json | jq -r '.[] | select(.state == "offline").id'
    """
)
@json_option
@with_client
def command(client: HttpClient, *, as_json: bool) -> None:
    """List workers: what is reserved on each of what it offers; also those that others keep, known by heartbeats."""
    nodes = client.nodes()
    if as_json:
        print_json_array(nodes)
        return
    print_table(COLUMNS, [_row(view_of(node, ShownNode)) for node in nodes], wide=FLEXIBLE, spare=SPARE)


def _row(node: ShownNode) -> tuple[str, ...]:
    return (
        node.id,
        node.state,
        str(node.tasks) + (f" ({node.quarantined_slots} slots lost)" if node.quarantined_slots else ""),
        _share(node, "cpu"),
        _share(node, "memory"),
        str(len(node.gpus)),
        " ".join(_others(node)),
        f"{node.usage.cpu_percent:.0f}%" if node.usage else "",
        f"{duration(node.last_seen)} ago" if node.last_seen is not None else "",
        ",".join(node.tags),
        node.addr or node.host,
        node.python or "",
        node.kind,
    )


def _others(node: ShownNode) -> Iterator[str]:
    for name in sorted(node.resources):
        if name not in {"cpu", "memory"}:
            yield f"{name}:{_share(node, name)}"


def _share(node: ShownNode, name: str) -> str:
    """Return what is reserved of what is offered; of a worker of somebody's own, what it says it has free."""
    if node.kind != OURS:
        return f"{quantity(name, node.resources[name])} free" if name in node.resources else ""
    return f"{quantity(name, node.used.get(name, 0))}/{quantity(name, node.resources.get(name, 0))}"

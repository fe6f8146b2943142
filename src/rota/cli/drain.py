"""``rota drain``: gives workers nothing new, and waits until they are empty if that is wished."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import click

from rota.cli import completing
from rota.cli.bulk import change_each
from rota.cli.exits import TIMED_OUT
from rota.cli.options import DURATION, ID, json_option, with_client
from rota.cli.patience import Patience
from rota.cli.text import escaped
from rota.cli.views import ShownNode, view_of
from rota.core.errors import RotaError

if TYPE_CHECKING:
    from rota.client.http import HttpClient

__all__ = ["command"]

LOOK_EVERY_S: Final = 1.0

OFFLINE: Final = "offline"


@click.command(
    epilog="""Examples:

    \b
    rota drain w1 w2
    rota drain w1 --wait --timeout 1h      # then w1 can be shut down
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
@click.option("--wait", "is_waiting", is_flag=True, help="Return when they run nothing any more.")
@click.option("--timeout", type=DURATION, help="Wait at most so long; they stay drained.  [default: without end]")
@json_option
@with_client
def command(
    client: HttpClient, *, ids: tuple[str, ...], is_waiting: bool, timeout: float | None, as_json: bool
) -> None:
    """Give workers nothing new. What they run goes on; 'rota resume' undoes it."""
    if timeout is not None and not is_waiting:
        raise click.UsageError("--timeout goes with --wait")
    change_each(ids, client.drain, as_json=as_json, describe=lambda node: f"{node['id']} is {node['state']}")
    if is_waiting:
        _wait_until_empty(client, ids, timeout_s=timeout)


def _wait_until_empty(client: HttpClient, ids: Sequence[str], *, timeout_s: float | None) -> None:
    """Return when none of these workers has a task, through restarts of the coordinator.

    Raises:
        click.exceptions.Exit: The time is over.
    """
    patience = Patience(until=math.inf if timeout_s is None else time.monotonic() + timeout_s)
    left = dict.fromkeys(ids)
    said: dict[str, int] = {}
    while left:
        try:
            nodes = {node.id: node for node in (view_of(node, ShownNode) for node in client.nodes())}
        except RotaError as error:
            patience.bear(error)
        else:
            patience.relax()
            _tell_of(nodes, left, said)
        if left and patience.is_over:
            click.echo(f"rota: not empty in time: {escaped(', '.join(left))}; they stay drained", err=True)
            raise click.exceptions.Exit(TIMED_OUT)
        if left and not patience.is_tried:
            time.sleep(LOOK_EVERY_S)


def _tell_of(nodes: Mapping[str, ShownNode], left: dict[str, None], said: dict[str, int]) -> None:
    """Say what has changed of those that are left, and leave out who is empty or gone."""
    for name in list(left):
        node = nodes.get(name)
        if node is None or node.tasks == 0:
            del left[name]
            word = "empty" if node is not None and node.state != OFFLINE else "gone"
            click.echo(f"rota: {escaped(name)} is {word}", err=True)
        elif said.get(name) != node.tasks:
            said[name] = node.tasks
            click.echo(f"rota: {escaped(name)} has {node.tasks:,} tasks", err=True)

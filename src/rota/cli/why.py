"""``rota why``: why a task waits, what would help, and when its turn may come."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from rota.cli import completing
from rota.cli.options import ID, json_option, print_json, with_client
from rota.cli.table import styled_state
from rota.cli.text import all_lines, escaped, from_now, one_line
from rota.cli.views import ShownWhy, view_of

if TYPE_CHECKING:
    from rota.client.http import HttpClient

__all__ = ["command"]


@click.command(
    epilog="""Examples:

    \b
    rota why t17
    rota why t17 --json
    """
)
@click.argument("task_id", metavar="ID", type=ID, shell_complete=completing.tasks("pending", "assigned"))
@json_option
@with_client
def command(client: HttpClient, *, task_id: str, as_json: bool) -> None:
    """Say why a task waits: what each worker lacks, the nearest miss, its place in the order, when it may start."""
    answer = client.explain(task_id)
    if as_json:
        print_json(answer)
        return
    for line in _lines(view_of(answer, ShownWhy), time.time()):
        click.echo(line)


def _lines(why: ShownWhy, now: float) -> Iterator[str]:
    reason = f" ({why.reason})" if why.reason else ""
    yield f"{escaped(why.id)} {styled_state(why.state)}{reason}: {all_lines(why.text, indent=4)}"
    for blocker in why.blockers:
        yield f"  - {one_line(blocker.text)}"
    if why.nearest is not None:
        yield f"  nearest miss: {one_line(why.nearest.text)}"
    if why.place is not None:
        yield f"  in the order: {_ahead(why.place.ahead)}, of {why.place.of:,} that wait"
    if why.start is not None:
        yield f"  may start: {_range(why.start.earliest, why.start.latest, now)}; {escaped(why.start.basis)}"


def _ahead(count: int) -> str:
    if count < 2:
        return "one goes before it" if count else "the first"
    return f"{count:,} go before it"


def _range(earliest: str, latest: str, now: float) -> str:
    first, last = from_now(earliest, now), from_now(latest, now)
    return first if first == last else f"{first} to {last}"

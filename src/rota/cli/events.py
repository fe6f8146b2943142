"""``rota events``: follows what happens."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

from rota.cli.options import with_client
from rota.cli.table import styled_state
from rota.cli.text import escaped, one_line
from rota.cli.views import ShownEvent, ShownProgress, view_of
from rota.core.errors import RotaError

if TYPE_CHECKING:
    from rota.client.http import HttpClient, Json

__all__ = ["command", "followed_events"]

RECONNECT_S: Final = 1.0
"""Between tries to reach a coordinator that has gone: long enough not to be a load."""


@click.command(
    epilog="""Examples:

    \b
    rota events
    rota events --json | jq 'select(.type == "task.failed")'
    """
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option("--since", "last_id", metavar="EVENT", help="Begin after this event, while the coordinator has it.")
@with_client
def command(client: HttpClient, *, as_json: bool, last_id: str | None) -> None:
    """Follow what happens to tasks and workers, until Ctrl-C.

    Goes on where it was when the coordinator restarts. An event 'resync' says that some were missed.
    """
    show: Callable[[Json], str] = json.dumps if as_json else _line
    for event in followed_events(client, last_id):
        click.echo(show(event))


def followed_events(
    client: HttpClient, last_id: str | None = None, *, is_quiet: bool = False, enough: threading.Event | None = None
) -> Iterator[Json]:
    """Yield events, over reconnects; only the first connection must succeed.

    Args:
        client: The coordinator.
        last_id: The event to begin after; ``None`` begins now.
        is_quiet: Say nothing of reconnects.
        enough: Once it is set there are no more reconnects; ``None`` goes on for ever.
    """
    enough = enough or threading.Event()
    has_connected = False
    while not enough.is_set():
        try:
            stream = client.events(last_id)
            has_connected = True
            for event in stream:
                last_id = event.get("id") or last_id
                yield event
        except RotaError as error:
            if not has_connected or not error.retryable:
                raise
            if not is_quiet:
                click.echo(f"rota: {error}; trying again", err=True)
        enough.wait(RECONNECT_S)


def _line(event: Json) -> str:
    view = view_of(event, ShownEvent)
    subject, _, state = view.type.partition(".")
    parts = [_clock(view.time), escaped(view.task or view.node or subject), styled_state(state)]
    if view.attempt:
        parts.append(f"attempt {view.attempt}")
    if view.node and view.task:
        parts.append(f"on {escaped(view.node)}")
    if view.fraction is not None or view.text:
        parts.append(one_line(ShownProgress(fraction=view.fraction, text=view.text or "").line))
    if view.cause:
        parts.append(f"({escaped(view.cause)})")
    return " ".join(part for part in parts if part)


def _clock(at: str | None) -> str:
    return datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S") if at else ""

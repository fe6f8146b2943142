"""``rota logs``: prints the output of a task, byte for byte."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from rota.cli import completing
from rota.cli.options import ID, with_client
from rota.cli.views import ShownTask, view_of
from rota.core.errors import Unavailable

if TYPE_CHECKING:
    from rota.client.http import HttpClient

__all__ = ["command"]


@click.command(
    epilog="""Examples:

    \b
    rota logs t17
    rota logs --follow t17
    rota logs --stream stderr --attempt 1 t17
    """
)
@click.argument("task_id", metavar="ID", type=ID, shell_complete=completing.tasks())
@click.option("-f", "--follow", is_flag=True, help="Go on until the task has ended, over retries.")
@click.option("--stream", type=click.Choice(["stdout", "stderr"]), help="Only this one.  [default: both]")
@click.option("--attempt", type=click.IntRange(min=1), help="Of this attempt.  [default: the last]")
@with_client
def command(client: HttpClient, *, task_id: str, follow: bool, stream: str | None, attempt: int | None) -> None:
    """Print the output of a task, as it was written, to stdout."""
    for chunk in client.logs(task_id, {"stream": stream, "attempt": attempt}, follow=follow):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    if follow and attempt is None and not view_of(client.task(task_id), ShownTask).has_ended:
        raise Unavailable(f"the coordinator has ended the stream, and {task_id} goes on: follow it again")

"""``rota wait``: waits until tasks have ended, whoever submitted them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rota.cli.choosing import OPEN_STATES, Choice, task_choice
from rota.cli.ends import wait_and_tell
from rota.cli.exits import REFUSED, TIMED_OUT
from rota.cli.options import DURATION, json_option, print_json_array, with_client
from rota.cli.views import ShownTask, view_of

if TYPE_CHECKING:
    from rota.client.http import HttpClient

__all__ = ["command"]


@click.command(
    epilog="""Examples:

    \b
    rota wait prepare
    rota wait --label job=sweep && rota fetch --label job=sweep --to results
    rota wait --queue batch --timeout 1h || echo 'not all is well'

    Exits with 0 if all have completed, with 1 if one has not, and with 124 if --timeout was over before.
    """
)
@task_choice(*OPEN_STATES, example="--label job=sweep")
@click.option("--timeout", "timeout_s", type=DURATION, help="Wait no longer than that: 30s, 5m.")
@json_option
@with_client
def command(client: HttpClient, /, *, choice: Choice, timeout_s: float | None, as_json: bool) -> None:
    """Wait until tasks have ended, and say how they did.

    Give ids, or filters for all tasks that match them when it begins; of several filters all must hold. Tasks that
    have ended before count, too.
    """
    tasks = [view_of(answer, ShownTask) for answer in choice.tasks(client)]
    if not tasks:
        click.echo("rota: no task matches", err=True)
    left = [task.id for task in tasks if not task.has_ended]
    ends = wait_and_tell(client, left, ended=[task for task in tasks if task.has_ended], timeout_s=timeout_s)
    if as_json:
        print_json_array(client.task(task.id) for task in tasks)
    if ends["left"]:
        raise click.exceptions.Exit(TIMED_OUT)
    if ends["completed"] != len(tasks):
        raise click.exceptions.Exit(REFUSED)

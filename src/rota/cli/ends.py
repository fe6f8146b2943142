"""Waiting for many tasks in front of a person: a bar, a line for each of the first failures, and a sum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from rota.cli.progress import progress_bar
from rota.cli.text import escaped, one_line
from rota.cli.views import ShownTask
from rota.cli.waiting import wait_for_all

if TYPE_CHECKING:
    from rota.client.http import HttpClient

__all__ = ["wait_and_tell"]

FAILURES_SHOWN: Final = 10


def wait_and_tell(
    client: HttpClient, ids: Sequence[str], *, ended: Sequence[ShownTask] = (), timeout_s: float | None = None
) -> Counter[str]:
    """Wait for tasks, say on stderr how they ended, and return how many did how; ``left`` are those that did not yet.

    Args:
        client: The coordinator.
        ids: The tasks to wait for.
        ended: More, which are known to have ended: they count, and are told.
        timeout_s: How long to wait at most; ``None`` for as long as it takes.
    """
    ends: Counter[str] = Counter()
    left = 0
    total = len(ids) + len(ended)
    with progress_bar(total) as advance:

        def note(task: ShownTask) -> None:
            ends[task.state] += 1
            failures = ends.total() - ends["completed"]
            if task.state != "completed" and failures <= FAILURES_SHOWN:
                click.echo(f"rota: {one_line(f'{task.id} {task.outcome}')}", err=True)
            advance(failures)

        for task in ended:
            note(task)
        if ids:
            left = wait_for_all(client, ids, on_end=note, timeout_s=timeout_s)
    if left:
        ends["left"] = left
    if total == 1 and left:
        click.echo(f"rota: {escaped(ids[0])} has not ended", err=True)
    elif total > 1:
        click.echo("rota: " + ", ".join(f"{count} {state}" for state, count in sorted(ends.items())), err=True)
    return ends

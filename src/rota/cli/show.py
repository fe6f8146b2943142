"""``rota show``: all about a task."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from rota.cli import completing
from rota.cli.options import ID, json_option, print_json, with_client
from rota.cli.ps import took
from rota.cli.table import print_table, styled_state
from rota.cli.text import ago, all_lines, amount, command_line, duration, escaped, from_now, memory, one_line, size
from rota.cli.views import ShownAttempt, ShownTask, ending, view_of

if TYPE_CHECKING:
    from rota.client.http import HttpClient

__all__ = ["command"]

ATTEMPT_COLUMNS: Final = ("ATTEMPT", "WORKER", "STARTED", "TOOK", "CPU", "PEAK", "ENDED")

SPARE: Final = ("STARTED", "PEAK", "CPU")

DIGEST_CHARS: Final = 12
"""Enough of a function's digest to tell it from others."""

NAMES_SHOWN: Final = 5
"""Of the files that were brought back."""

_LABEL_WIDTH: Final = 11
"""Of the longest label, and a space."""


@click.command(
    epilog="""Examples:

    \b
    rota show t17
    rota show t17 --json | jq '.attempts[].cause'
    """
)
@click.argument("task_id", metavar="ID", type=ID, shell_complete=completing.tasks())
@json_option
@with_client
def command(client: HttpClient, *, task_id: str, as_json: bool) -> None:
    """Show all about a task: what it is, where it stands and why, and its attempts."""
    task, attempts = client.task(task_id), client.attempts(task_id)
    if as_json:
        print_json({**task, "attempts": attempts})
        return
    now = time.time()
    for label, text in _facts(view_of(task, ShownTask), now):
        click.echo(f"{label + ':':<{_LABEL_WIDTH}} {text}")
    if attempts:
        click.echo()
        print_table(
            ATTEMPT_COLUMNS,
            [_attempt_row(view_of(a, ShownAttempt), now) for a in attempts],
            wide=("ENDED",),
            spare=SPARE,
        )


def _facts(task: ShownTask, now: float) -> Iterator[tuple[str, str]]:
    yield "task", escaped(task.id)
    if task.name:
        yield "name", escaped(task.name)
    yield "runs", _own_lines(task.work)
    why = f" ({_own_lines(task.why)})" if task.why else ""
    reason = f": {escaped(task.reason)}" if task.state == "pending" and task.reason else ""
    yield "state", styled_state(task.state) + reason + why
    if task.worker:
        yield "worker", escaped(task.worker)
    yield from _moments(task, now)
    yield from _request(task)
    if task.cpu_seconds is not None or task.peak_memory is not None:
        yield "used", ", ".join(_usage(task))
    if task.stdout_bytes or task.stderr_bytes:
        sizes = f"{size(task.stdout_bytes)} to stdout, {size(task.stderr_bytes)} to stderr"
        yield "output", f"{sizes}, see 'rota logs {escaped(task.id)}'"
    yield from _files(task)


def _own_lines(text: str) -> str:
    """A script, or what a compiler says, as it is: the place to read all of it."""
    return all_lines(text, indent=_LABEL_WIDTH + 1)


def _files(task: ShownTask) -> Iterator[tuple[str, str]]:
    if task.files:
        yield "files", escaped(", ".join(task.files))
    if task.outputs:
        yield "to keep", escaped(", ".join(task.outputs))
    if task.output_files:
        names = ", ".join(output.name for output in task.output_files[:NAMES_SHOWN])
        more = f" and {len(task.output_files) - NAMES_SHOWN} more" if len(task.output_files) > NAMES_SHOWN else ""
        total = size(sum(output.bytes for output in task.output_files))
        yield "kept", f"{escaped(names)}{more}: {total}, see 'rota fetch {escaped(task.id)}'"


def _moments(task: ShownTask, now: float) -> Iterator[tuple[str, str]]:
    for label, moment in (("created", task.created_at), ("started", task.started_at), ("ended", task.ended_at)):
        if moment:
            yield label, f"{moment} ({ago(moment, now)})"
    for label, text in (("not before", task.start_at), ("deadline", task.deadline)):
        if text is not None:
            yield label, f"{text} ({from_now(text, now)})"


def _request(task: ShownTask) -> Iterator[tuple[str, str]]:
    yield "wants", escaped(", ".join(amount(name, count) for name, count in sorted(task.resources.items())))
    if task.tags:
        yield "tags", escaped(", ".join(task.tags))
    yield "queue", f"{escaped(task.queue)}, priority {task.priority}"
    if task.placement or task.affinity:
        yield "placement", escaped(", ".join(part for part in (task.placement, task.affinity) if part))
    if task.limits:
        yield "limits", escaped(", ".join(f"{name} {amount:,}" for name, amount in sorted(task.limits.items())))
    yield "budgets", f"{task.retries_used} of {task.retries} retries, {task.losses_used} of {task.losses} losses used"
    if task.timeout is not None:
        yield "timeout", duration(task.timeout)
    if task.function is not None:
        yield "function", f"{task.function[:DIGEST_CHARS]}…" + (f", Python {task.python}" if task.python else "")
    if task.exclusive:
        yield "exclusive", "never runs twice at once"
    if task.gang is not None:
        yield "gang", escaped(f"{task.gang.id}, {task.gang.size} members")
    if task.requirements:
        yield "needs", escaped(", ".join(task.requirements))
    if task.cwd is not None:
        yield "cwd", escaped(task.cwd)
    for label, pairs in (("env", task.env), ("labels", task.labels)):
        if pairs:
            yield label, one_line(command_line([f"{key}={value}" for key, value in pairs.items()]))


def _usage(task: ShownTask | ShownAttempt) -> Iterator[str]:
    if task.cpu_seconds is not None:
        yield f"{task.cpu_seconds:.2f} s of cpu"
    if task.peak_memory is not None:
        yield f"{memory(task.peak_memory)} at the peak"


def _attempt_row(attempt: ShownAttempt, now: float) -> tuple[str, ...]:
    return (
        str(attempt.number),
        attempt.worker or "",
        ago(attempt.started_at, now),
        took(attempt, now),
        f"{attempt.cpu_seconds:.2f}s" if attempt.cpu_seconds is not None else "",
        memory(attempt.peak_memory) if attempt.peak_memory is not None else "",
        _end_of(attempt),
    )


def _end_of(attempt: ShownAttempt) -> str:
    if attempt.cause is not None:
        return ending(attempt)
    if not attempt.ended_at:
        return "running"
    return f"completed: {attempt.message}" if attempt.message else "completed"

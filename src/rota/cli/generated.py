"""What ``rota workload`` does: submits tasks as they fall due, waits for their ends, and sums them up.

Tasks have ids of ours, so that a request whose answer was lost is sent again as it is and makes nothing twice; and a
label, by which they are found.
"""

from __future__ import annotations

import random
import secrets
import signal
import statistics
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import Any, Final

import click
import msgspec
from msgspec import Struct

from rota.cli.exits import ABORTED, REFUSED
from rota.cli.options import print_json
from rota.cli.patience import Patience
from rota.cli.progress import counting_bar, progress_bar
from rota.cli.text import duration, escaped
from rota.cli.views import ShownNode, ShownTask, view_of
from rota.cli.waiting import wait_for_all
from rota.client.http import HttpClient, Json
from rota.core.errors import BadRequest, Overloaded, RotaError
from rota.workloads import WorkloadTask, make_arrivals, make_durations, make_mix
from rota.workloads.feed import TaskFeed, fitted, largest_of

__all__ = ["Summary", "run", "summary_of"]

LABEL: Final = "workload"
"""Of all tasks of a run; its value is the run's name."""

TICK_S: Final = 0.02
"""Between two requests, at least: what falls due meanwhile goes into one."""

BATCH_MAX: Final = 100
"""In one request, when it fell behind: few enough to find room in a coordinator that takes little."""

PATIENCE_S: Final = 600.0
"""How long tasks are held back while too many wait already: the cluster needs time to work them off."""

TASKS_MAX: Final = 1_000_000
"""Of one run: a cluster keeps two million ended ones, and they are all read at the end."""

FULL_PAUSE_S: Final = 1.0
"""Between two tries while it is full: what the coordinator itself asks for."""

PAGE: Final = 1000
SEED_MAX: Final = 2**32


class Summary(Struct, kw_only=True):
    """What became of a run. Times are seconds; ``waited`` is from a task's arrival to its start."""

    run: str
    seed: int
    submitted: int
    submit_seconds: float
    completed: int
    failed: int
    cancelled: int
    left: int
    waited_p50: float | None = None
    waited_p95: float | None = None
    waited_max: float | None = None


class _Run(Struct):
    """One run under way."""

    name: str
    seed: int
    expected: int
    largest: dict[str, int] | None
    queue: str
    interrupts: _Interrupts
    submitted: int = 0
    submit_seconds: float = 0.0


def run(client: HttpClient, given: dict[str, Any], *, as_json: bool) -> None:
    """Put the load on the cluster.

    Args:
        client: The coordinator.
        given: The options of the command by their names.
        as_json: Whether to print the summary as JSON.

    Raises:
        BadRequest: The options make no sense.
        click.exceptions.Exit: Not all completed, or somebody interrupted it.
    """
    seed = given["seed"] if given["seed"] is not None else secrets.randbelow(SEED_MAX)
    feed = _feed(given, seed)
    largest = _largest_worker(client)
    this = _Run(
        name=f"w-{secrets.token_hex(4)}",
        seed=seed,
        expected=round(given["rate"] * given["duration"]),
        largest=largest,
        queue=given["queue"],
        interrupts=_Interrupts(),
    )
    tasks: dict[str, ShownTask] = {}
    is_interrupted = False
    try:
        _submit_all(client, feed, this)
        _await_ends(client, this, tasks)
    except KeyboardInterrupt:
        is_interrupted = True
        tasks = _tasks_of(client, this)
    summary = summary_of(tasks.values(), this.name, this.seed, submit_seconds=this.submit_seconds)
    _show(summary, as_json=as_json)
    if is_interrupted:
        raise click.exceptions.Exit(ABORTED)
    if summary.completed < summary.submitted:
        raise click.exceptions.Exit(REFUSED)


def _feed(given: dict[str, Any], seed: int) -> TaskFeed:
    """Make what is to come of the options."""
    arrivals = make_arrivals(given["pattern"], rate=given["rate"], duration_s=given["duration"])
    if given["rate"] * given["duration"] > TASKS_MAX:
        raise BadRequest(f"{given['rate'] * given['duration']:,.0f} tasks: at most {TASKS_MAX:,} in one run")
    durations = make_durations(given["durations"], mean_s=given["mean_duration"])
    mix = make_mix(given["mix"], durations=durations, shapes=given["shapes"])
    return TaskFeed(arrivals, mix, random.Random(seed))


def _largest_worker(client: HttpClient) -> dict[str, int] | None:
    """What the largest worker offers that can run such tasks; says so if there is none."""
    offers = [
        view_of(node, ShownNode).resources
        for node in client.nodes()
        if node.get("state") == "online" and "workload" in node.get("kinds", ())
    ]
    if not offers:
        _say("no worker is there that does synthetic work: the tasks will wait for one")
    found = largest_of(offers)
    return dict(found) if found is not None else None


# Submitting --------------------------------------------------------------------------------------------


def _submit_all(client: HttpClient, feed: TaskFeed, this: _Run) -> None:
    """Submit everything as it falls due."""
    began = time.monotonic()
    due: list[WorkloadTask] = []
    try:
        with counting_bar(this.expected) as show:
            while feed.next_s is not None:
                if len(due) < BATCH_MAX:  # else more is due already
                    time.sleep(max(TICK_S, began + feed.next_s - time.monotonic()))
                due = feed.take_due(time.monotonic() - began, most=BATCH_MAX)
                if due:
                    _submit(client, due, this)
                    show(this.submitted)
    finally:
        this.submit_seconds = time.monotonic() - began


def _submit(client: HttpClient, due: Sequence[WorkloadTask], this: _Run) -> None:
    requests = [
        (task if this.largest is None else fitted(task, this.largest)).request(
            queue=this.queue, task_id=f"{this.name}-{number}", labels={LABEL: this.name}
        )
        for number, task in enumerate(due, start=this.submitted + 1)
    ]
    body = msgspec.json.encode(requests)
    patience, full_until = Patience(), time.monotonic() + PATIENCE_S
    is_told = False
    while True:
        try:
            with this.interrupts.held():
                client.submit_many(body)
                this.submitted += len(due)
        except Overloaded as error:
            if time.monotonic() >= full_until:
                raise
            if not is_told:
                _say(f"{error}; trying again")
            is_told = True
            time.sleep(FULL_PAUSE_S)
        except RotaError as error:
            patience.bear(error)
        else:
            return


class _Interrupts:
    """Ctrl-C and SIGTERM, which end what is under way, but for one request at a time.

    A request that was left half-way could still be accepted after the tasks were counted.
    """

    def __init__(self) -> None:
        self._is_held = False
        self._has_come = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Put off an interrupt to the end of the block."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
            if self._has_come:
                self._has_come = False
                raise KeyboardInterrupt

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if not self._is_held:
            raise KeyboardInterrupt
        self._has_come = True


# Waiting -----------------------------------------------------------------------------------------------


def _await_ends(client: HttpClient, this: _Run, tasks: dict[str, ShownTask]) -> None:
    """Fill in all tasks as they ended."""
    tasks.update(_tasks_of(client, this))
    left = sorted((task.id for task in tasks.values() if not task.has_ended), key=_number_of)
    failures = Counter(task.state for task in tasks.values() if task.has_ended)
    if not left:
        return
    with progress_bar(len(left)) as advance:

        def note(task: ShownTask) -> None:
            tasks[task.id] = task
            failures[task.state] += 1
            advance(failures["failed"] + failures["cancelled"])

        wait_for_all(client, left, on_end=note)


def _tasks_of(client: HttpClient, this: _Run) -> dict[str, ShownTask]:
    """Return the tasks of a run as they are on the record."""
    patience = Patience()
    while True:
        found: dict[str, ShownTask] = {}
        try:
            for page in client.tasks({"label": f"{LABEL}={this.name}", "limit": PAGE}):
                found.update((task.id, task) for task in map(_shown, page))
                # They are the newest: what is behind them on the record need not be looked through.
                if len(found) >= this.submitted:
                    break
        except RotaError as error:
            patience.bear(error)
        else:
            return found


def _shown(task: Json) -> ShownTask:
    return view_of(task, ShownTask)


def _number_of(task_id: str) -> int:
    """The place of a task in the order of arrival."""
    return int(task_id.rpartition("-")[2])


# Summing up --------------------------------------------------------------------------------------------


def summary_of(tasks: Collection[ShownTask], run: str, seed: int, *, submit_seconds: float) -> Summary:
    """Sum up a run.

    Args:
        tasks: All of its tasks.
        run: Its name.
        seed: What it was made of.
        submit_seconds: How long the submitting took.
    """
    states = Counter(task.state for task in tasks)
    waits = sorted(wait for task in tasks if (wait := _waited_s(task)) is not None)
    return Summary(
        run=run,
        seed=seed,
        submitted=len(tasks),
        submit_seconds=round(submit_seconds, 3),
        completed=states["completed"],
        failed=states["failed"],
        cancelled=states["cancelled"],
        left=sum(not task.has_ended for task in tasks),
        waited_p50=_percentile(waits, 50),
        waited_p95=_percentile(waits, 95),
        waited_max=waits[-1] if waits else None,
    )


def _waited_s(task: ShownTask) -> float | None:
    """From a task's arrival to its last start; ``None`` if it never began."""
    if task.created_at is None or task.started_at is None:
        return None
    waited = datetime.fromisoformat(task.started_at) - datetime.fromisoformat(task.created_at)
    return max(0.0, waited.total_seconds())


def _percentile(waits: Sequence[float], part: int) -> float | None:
    """Return what so many in a hundred stay below.

    >>> _percentile([0.0, 1.0, 2.0, 3.0, 4.0], 50), _percentile([2.5], 95), _percentile([], 50)
    (2.0, 2.5, None)
    """
    if len(waits) < 2:
        return waits[0] if waits else None
    return round(statistics.quantiles(waits, n=100, method="inclusive")[part - 1], 6)


def _show(summary: Summary, *, as_json: bool) -> None:
    if as_json:
        print_json(msgspec.to_builtins(summary))
        return
    rate = summary.submitted / summary.submit_seconds if summary.submit_seconds else 0.0
    click.echo(
        f"submitted {summary.submitted:,} tasks in {duration(summary.submit_seconds)} ({rate:.1f} a second, "
        f"seed {summary.seed})"
    )
    left = f", {summary.left:,} left" if summary.left else ""
    click.echo(
        f"ended     {summary.completed:,} completed, {summary.failed:,} failed, {summary.cancelled:,} cancelled{left}"
    )
    if summary.waited_p50 is not None and summary.waited_p95 is not None and summary.waited_max is not None:
        half, most, longest = map(duration, (summary.waited_p50, summary.waited_p95, summary.waited_max))
        click.echo(f"waited    half {half}, 95 % {most}, longest {longest}")
    if summary.left:
        _say(f"{summary.left:,} tasks go on; see 'rota ps --label {LABEL}={summary.run}'")
    elif summary.failed + summary.cancelled:
        _say(f"see 'rota ps --state failed --state cancelled --label {LABEL}={summary.run}'")


def _say(text: str) -> None:
    click.echo(f"rota: {escaped(text)}", err=True)

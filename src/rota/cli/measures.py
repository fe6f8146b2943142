"""The measurements of `rota bench`: each is some work for a bounded time, and the figures that it gave.

Times of single things are taken here, as a user sees them. Those of many are taken from the record, whose moments are
the coordinator's and say nothing of our own speed. What the coordinator counts about itself (commits, turns of its
loop) is read from its metrics before and after.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Final

import msgspec

from rota.cli.verdicts import Figures, Times, WorkerFigures
from rota.cli.views import ShownTask, view_of
from rota.client.client import Client
from rota.client.decorator import TaskFunction, task
from rota.client.http import HttpClient, Json
from rota.client.transport import CONNECTIONS_MAX
from rota.core.errors import Conflict, RotaError

__all__ = ["LABEL", "Meter", "measure_all"]

LABEL: Final = "bench"
"""Of all tasks of a run; its value is the run's name."""

REQUESTS: Final = 200
ONE_BY_ONE: Final = 200
"""Enough for a 99th percentile that means something."""

COMMANDS_MAX: Final = 5_000
FUNCTIONS_MAX: Final = 20_000
"""Of many at once: they stay on the record of a cluster that has other uses, so not more than a rate needs."""

PILOT: Final = 20
"""Tasks for each that runs at once, to learn how many fill the time."""

BATCH: Final = 1_000
"""What one request may hold."""

ASK_S: Final = 30.0
"""How long the coordinator may hold back an answer: short of what proxies cut."""

PAGE: Final = 1_000
LOOK_EVERY_S: Final = 0.05
"""At what is left of many. It costs the coordinator a fraction of a millisecond."""

OUTPUTS: Final = 5
OUTPUT_BYTES: Final = 1_000_000
"""As much as a worker keeps of one stream, unless it was told otherwise."""

OUTPUT_LINE: Final = f"head -c {OUTPUT_BYTES} /dev/zero | tr '\\0' x"

UNFINISHED: Final = ("pending", "assigned", "running")

REQUEST_PART: Final = 0.03
SINGLE_PART: Final = 0.2
COMMANDS_PART: Final = 0.3
FUNCTION_PART: Final = 0.1
FUNCTIONS_PART: Final = 0.2
OUTPUT_PART: Final = 0.1
"""Of the time that there is: the rest is for starting, looking and cleaning up."""


class NotInTime(Conflict):
    """A task of the bench had not ended when its time was over."""


class Meter:
    """One run: the cluster that is measured, what was sent to it, and how much time is left.

    Args:
        client: The coordinator.
        connect: Makes a client of the SDK for the same coordinator.
        run: Its name, by which its tasks are found.
        queue: Where they go.
        seconds: How long all may take.
    """

    def __init__(
        self, client: HttpClient, connect: Callable[[], Client], *, run: str, queue: str, seconds: float
    ) -> None:
        self.client = client
        self.connect = connect
        self.run = run
        self.seconds = seconds
        self.began = time.monotonic()
        self.sent = 0
        self._common: Json = {"name": LABEL, "labels": {LABEL: run}, "priority": "low", "queue": queue}

    def until(self, part: float) -> float:
        """Return when a part of the time is over that begins now, and not after the whole."""
        return min(time.monotonic() + part * self.seconds, self.began + self.seconds)

    def left_s(self) -> float:
        """Return the seconds that are left of the whole, for those who refuse 0."""
        return max(0.001, self.until(1.0) - time.monotonic())

    def specs(self, count: int, **work: object) -> list[Json]:
        """Describe tasks that were not there yet."""
        first = self.sent + 1
        self.sent += count
        return [{"id": f"{self.run}-{number}", **work, **self._common} for number in range(first, first + count)]

    def function(self) -> TaskFunction[[int], int]:
        """Return a function that does nothing, and that every Python has."""
        return task(**self._common)(abs)

    def wait(self, task_id: str, until: float) -> ShownTask:
        """Return a task when it has ended well.

        Raises:
            NotInTime: It has not ended until then; says where it stands.
            Conflict: It failed, or somebody cancelled it.
        """
        while True:
            left_s = max(0.0, until - time.monotonic())
            found = view_of(self.client.wait(task_id, timeout_s=min(left_s, ASK_S)), ShownTask)
            if found.has_ended or not left_s:
                break
        if not found.has_ended:
            why = found.why or found.state
            raise NotInTime(f"task {found.id} of the bench did not end in time: {why}; see 'rota why {found.id}'")
        if found.state != "completed":
            raise Conflict(f"task {found.id} of the bench {found.outcome}: nothing can be measured this way")
        return found

    def unfinished(self) -> list[str]:
        """Return the ids of what has not ended."""
        pages = self.client.tasks({"label": f"{LABEL}={self.run}", "state": UNFINISHED, "limit": PAGE})
        return [str(found["id"]) for page in pages for found in page]

    def is_any_unfinished(self) -> bool:
        """Say whether something has not ended."""
        return bool(next(self.client.tasks({"label": f"{LABEL}={self.run}", "state": UNFINISHED, "limit": 1})))

    def cancel_all(self) -> int:
        """Cancel what has not ended; return how many."""
        left = self.unfinished()
        # Several at a time, which share commits: there may be thousands, and somebody has pressed Ctrl-C.
        pool = ThreadPoolExecutor(CONNECTIONS_MAX)
        try:
            for _ in pool.map(self.client.cancel, left):
                pass
        finally:
            pool.shutdown(cancel_futures=True)
        return len(left)

    def newest(self, count: int) -> list[ShownTask]:
        """Return the last tasks of this run, as they are on the record."""
        found: list[ShownTask] = []
        for page in self.client.tasks({"label": f"{LABEL}={self.run}", "limit": min(PAGE, count)}):
            found += [view_of(each, ShownTask) for each in page]
            if len(found) >= count:
                break
        return found[:count]


def measure_all(meter: Meter, figures: Figures, nodes: Sequence[Json], *, on_step: Callable[[str], None]) -> None:
    """Fill in the figures, one measurement after the other.

    Args:
        meter: The run.
        figures: What is filled in.
        nodes: The workers that take part.
        on_step: Told what is measured next.
    """
    on_step("requests")
    figures.request = _times(_requests_ms(meter))
    on_step("one command at a time")
    _measure_one_by_one(meter, figures)
    on_step("many commands")
    _measure_commands(meter, figures)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if any(node.get("python") == version and "function" in node.get("kinds", ()) for node in nodes):
        on_step("functions")
        _measure_functions(meter, figures)
    else:
        figures.left_out.append(f"functions: no worker runs those of Python {version}, which this is")
    on_step("output")
    _measure_output(meter, figures)
    figures.tasks = meter.sent
    figures.seconds = round(time.monotonic() - meter.began, 3)


def _requests_ms(meter: Meter) -> Iterator[float]:
    """The way to the coordinator and back, with nothing to do there."""
    until = meter.until(REQUEST_PART)
    for _ in range(REQUESTS):
        began = time.perf_counter()
        meter.client.is_ready()
        yield 1000 * (time.perf_counter() - began)
        if time.monotonic() >= until:
            return


def _measure_one_by_one(meter: Meter, figures: Figures) -> None:
    """Submit a command and wait for its end, again and again."""
    meter.wait(_submitted(meter, command=["true"]), meter.until(1.0))  # the first finds nothing warm
    counts = _Counts(meter.client)
    until = meter.until(SINGLE_PART)
    submits_ms: list[float] = []
    trips_ms: list[float] = []
    programs_ms: list[float] = []
    while len(trips_ms) < ONE_BY_ONE and (not trips_ms or time.monotonic() < until):
        began = time.perf_counter()
        task_id = _submitted(meter, command=["true"])
        accepted = time.perf_counter()
        try:
            ended = meter.wait(task_id, meter.until(1.0))
        except NotInTime:
            if not trips_ms:
                raise
            meter.cancel_all()
            break
        trips_ms.append(1000 * (time.perf_counter() - began))
        submits_ms.append(1000 * (accepted - began))
        programs_ms.append(1000 * _ran_s(ended))
    figures.submit, figures.round_trip = _times(submits_ms), _times(trips_ms)
    figures.program_ms = round(statistics.fmean(programs_ms), 3)
    commits, commit_s = counts.since("rota_commit_seconds")
    figures.commit_ms = round(1000 * commit_s / commits, 3) if commits else None


def _submitted(meter: Meter, **work: object) -> str:
    (spec,) = meter.specs(1, **work)
    return str(meter.client.submit(spec)["id"])


def _measure_commands(meter: Meter, figures: Figures) -> None:
    """Submit as many commands as fill the time, and see them end."""
    until = meter.until(COMMANDS_PART)
    pilot = min(PILOT * figures.at_once, BATCH)
    ended = _run_commands(meter, pilot, until)[0]
    rate = _rate(ended)
    count = min(int((rate or 0.0) * (until - time.monotonic())), COMMANDS_MAX)
    if count > pilot:
        counts, began = _Counts(meter.client), time.monotonic()
        ended, submit_s = _run_commands(meter, count, until)
        elapsed_s = time.monotonic() - began
        figures.submits_per_second = round(count / submit_s, 1)
        _, turn_s = counts.since("rota_turn_seconds")
        figures.loop_busy = round(min(1.0, turn_s / elapsed_s), 3) if turn_s else None
        rate = _rate(ended)
        if rate:
            ran_s = sum(map(_ran_s, ended)) / len(ended)
            figures.workers_busy = round(min(1.0, ran_s * rate / figures.at_once), 3)
    figures.commands_per_second = rate
    figures.by_worker = _by_worker(ended)


def _run_commands(meter: Meter, count: int, until: float) -> tuple[list[ShownTask], float]:
    """Run commands together; return those that have completed in time, and the seconds that submitting took."""
    specs = meter.specs(count, command=["true"])
    bodies = [msgspec.json.encode(specs[first : first + BATCH]) for first in range(0, count, BATCH)]
    began = time.perf_counter()
    for body in bodies:
        meter.client.submit_many(body, patience_s=max(0.0, until - time.monotonic()))
    submit_s = time.perf_counter() - began
    while meter.is_any_unfinished() and time.monotonic() < until:
        time.sleep(LOOK_EVERY_S)
    meter.cancel_all()
    return [found for found in meter.newest(count) if found.state == "completed"], submit_s


def _rate(ended: Sequence[ShownTask]) -> float | None:
    """How many a second ended, from the arrival of the first to the end of the last."""
    if len(ended) < 2:
        return None
    arrived = min(_moment_s(found.created_at) for found in ended)
    over = max(_moment_s(found.ended_at) for found in ended)
    return round(len(ended) / max(over - arrived, 0.001), 1)


def _by_worker(ended: Sequence[ShownTask]) -> list[WorkerFigures]:
    found: dict[str, list[float]] = defaultdict(list)
    for each in ended:
        found[each.worker or ""].append(1000 * _ran_s(each))
    return [
        WorkerFigures(id=name, commands=len(times_ms), command_ms=round(statistics.fmean(times_ms), 3))
        for name, times_ms in sorted(found.items())
    ]


def _measure_functions(meter: Meter, figures: Figures) -> None:
    """Functions that do nothing, one at a time and many, through the SDK."""
    function = meter.function()
    try:
        with meter.connect() as client:
            meter.sent += 1
            # The first finds no warm process: that may take longer than its part.
            client.submit(function, 1).result(timeout=meter.left_s())
            figures.function_round_trip = _times(_function_trips_ms(meter, client, function))
            figures.functions_per_second = _function_rate(meter, client, function, figures.at_once)
    except TimeoutError:
        figures.left_out.append("functions: they did not end in time")


def _function_trips_ms(meter: Meter, client: Client, function: Callable[[int], int]) -> Iterator[float]:
    until = meter.until(FUNCTION_PART)
    for number in range(ONE_BY_ONE):
        began = time.perf_counter()
        meter.sent += 1
        client.submit(function, number).result(timeout=meter.left_s())
        yield 1000 * (time.perf_counter() - began)
        if time.monotonic() >= until:
            return


def _function_rate(meter: Meter, client: Client, function: Callable[[int], int], at_once: int) -> float:
    """How many come back a second; a small number first, to learn how many fill the time."""
    until = meter.until(FUNCTIONS_PART)
    count, rate = PILOT * at_once, 0.0
    while True:
        meter.sent += count
        began = time.perf_counter()
        for _ in client.map(function, range(count), timeout=meter.left_s()):
            pass
        rate = count / (time.perf_counter() - began)
        # Half of what is left: a rate that falls must not run over the end.
        fitting = min(int(rate * (until - time.monotonic()) / 2), FUNCTIONS_MAX)
        if fitting <= 2 * count:
            return round(rate, 1)
        count = fitting


def _measure_output(meter: Meter, figures: Figures) -> None:
    """A megabyte of output, from the submission of its task to the last byte that we have."""
    until = meter.until(OUTPUT_PART)
    rates: list[float] = []
    try:
        while len(rates) < OUTPUTS and time.monotonic() < until:
            began = time.perf_counter()
            task_id = _submitted(meter, shell=OUTPUT_LINE)
            # Not followed: that has no end if the task never starts.
            meter.wait(task_id, meter.until(1.0))
            size = sum(map(len, meter.client.logs(task_id, {"stream": "stdout"})))
            rates.append(size / 1e6 / (time.perf_counter() - began))
    except NotInTime:
        meter.cancel_all()
    if rates:
        figures.output_mb_per_second = round(statistics.median(rates), 3)
    else:
        figures.left_out.append("output: the time was over")


class _Counts:
    """What the coordinator has counted about itself so far; nothing if it shows no metrics."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client
        self._before = self._now()

    def since(self, name: str) -> tuple[float, float]:
        """Return by how much the count and the sum of a histogram have grown."""
        now = self._now()
        count, total = (now.get(name + part, 0.0) - self._before.get(name + part, 0.0) for part in ("_count", "_sum"))
        return count, total

    def _now(self) -> dict[str, float]:
        # Slow to import, and nobody else needs it.
        from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 - see above

        try:
            families = text_string_to_metric_families(self._client.metrics())
            return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}
        except (RotaError, ValueError):
            return {}


def _times(times_ms: Iterator[float] | Sequence[float]) -> Times:
    ordered = sorted(times_ms)
    return Times(
        count=len(ordered),
        median_ms=round(statistics.median(ordered), 3),
        p99_ms=round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 3),
    )


def _ran_s(found: ShownTask) -> float:
    return max(0.0, _moment_s(found.ended_at) - _moment_s(found.started_at))


def _moment_s(moment: str | None) -> float:
    assert moment is not None  # it has ended
    return datetime.fromisoformat(moment).timestamp()

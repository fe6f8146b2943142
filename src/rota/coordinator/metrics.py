"""Metrics: plain integers that cost nothing to count, and the page that Prometheus reads.

What is counted once a task or once a request is an attribute of `Counters`, changed by ``+= 1``. What
can be looked up (how many wait, how many workers there are) is asked for when the page is read. The official
client renders both, through a collector of ours with a registry of its own.

Every metric stands in ``docs/reference/metrics.md``; a test holds this.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from rota import __version__
from rota.core.model import Cause, Reason, WorkerState

__all__ = ["Counters", "Gauges", "Histogram", "MetricsPage", "QueueGauge"]

SECONDS_BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Of commits and turns: an fsync takes 0.2 ms on a good disk and 30 on a bad one; at 0.5 s a loop is sick."""

SIZE_BOUNDS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
"""Of what one commit holds, up to the largest array that one request may bring."""

_MIB: Final = 1 << 20
_UNITS: Final[Mapping[str, tuple[str, float]]] = {
    "cpu": ("cores", 0.001),
    "memory": ("bytes", _MIB),
    "gpu": ("devices", 1),
    "gpu_memory": ("bytes", _MIB),
}
"""By resource: the unit on the page and how many of it one of ours is. Others are counted as they are."""


class Histogram:
    """Counts observations by size; ``counts`` has one place more than ``bounds``, for what is above all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value: a bound belongs to the bucket below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulated(self) -> list[tuple[str, float]]:
        """The buckets as Prometheus wants them: each counts all that is at most its bound."""
        buckets: list[tuple[str, float]] = []
        so_far = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            so_far += count
            buckets.append((bound, so_far))
        return buckets


class Counters:
    """What the coordinator counts. Whoever does the thing counts it, after the commit that records it."""

    __slots__ = (
        "attempts_lost",
        "attempts_started",
        "blackouts",
        "calendar_fires",
        "commit_failures",
        "commit_seconds",
        "commit_tasks",
        "commits",
        "events_dropped",
        "grpc_calls",
        "http_requests",
        "placement_policies_failed",
        "results_dropped_stale",
        "tasks_cancelled",
        "tasks_completed",
        "tasks_failed",
        "tasks_submitted",
        "tasks_submitted_channel",
        "turn_seconds",
        "workers_lost",
    )

    def __init__(self) -> None:
        self.tasks_submitted = 0
        self.tasks_submitted_channel = 0
        self.tasks_completed = 0
        self.tasks_failed: dict[Cause, int] = dict.fromkeys(Cause, 0)
        self.tasks_cancelled = 0
        self.attempts_started = 0
        self.calendar_fires: dict[str, int] = dict.fromkeys(("fired", "skipped", "missed"), 0)
        self.attempts_lost = 0
        self.workers_lost = 0
        self.blackouts = 0
        self.results_dropped_stale = 0
        self.commits = 0
        self.commit_failures = 0
        self.commit_seconds = Histogram(SECONDS_BOUNDS)
        self.commit_tasks = Histogram(SIZE_BOUNDS)
        self.turn_seconds = Histogram(SECONDS_BOUNDS)
        self.http_requests: dict[tuple[str, str, int], int] = {}
        self.grpc_calls: dict[tuple[str, str], int] = {}
        self.events_dropped = 0
        self.placement_policies_failed = 0

    def count_request(self, route: str, method: str, status: int) -> None:
        """Count one HTTP request; ``route`` is the pattern, never the path, so that there are few."""
        key = (route, method, status)
        self.http_requests[key] = self.http_requests.get(key, 0) + 1

    def count_call(self, method: str, status: str) -> None:
        """Count one gRPC call that has ended; ``method`` is one that the contracts have."""
        key = (method, status)
        self.grpc_calls[key] = self.grpc_calls.get(key, 0) + 1


class QueueGauge(Struct, frozen=True):
    """A queue: how many tasks wait for a worker, how many attempts are live, how long the first has waited."""

    name: str
    pending: int
    running: int
    oldest_s: float


class Gauges(Struct, frozen=True, kw_only=True):
    """What is looked up when the page is read. Amounts of resources are in our smallest units."""

    tasks_pending: Mapping[Reason, int]
    tasks_active: int
    workers: Mapping[WorkerState, int]
    capacity: Mapping[str, int]
    used: Mapping[str, int]
    loop_lag_s: float
    event_listeners: int
    blobs: int
    blob_bytes: int
    clients: int
    calendars: int
    epoch: int
    own_workers: Mapping[WorkerState, int]
    own_waiting: int
    is_ready: bool
    queues: Sequence[QueueGauge]
    slots_quarantined: int
    state_bytes: Mapping[str, int]
    free_bytes: int | None


class MetricsPage:
    """The page: counters as they are, gauges as of now, and what the client library knows of the process."""

    def __init__(self, counters: Counters, look: Callable[[], Gauges]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_RotaCollector(counters, look))
        ProcessCollector(registry=self._registry)

    def render(self) -> tuple[bytes, str]:
        """The page and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class _RotaCollector(Collector):
    def __init__(self, counters: Counters, look: Callable[[], Gauges]) -> None:
        self._counters = counters
        self._look = look

    def describe(self) -> list[Metric]:
        """Nothing: so registering does not look before there is anything to see."""
        return []

    def collect(self) -> Iterator[Metric]:
        now = self._look()  # first: it brings the counters up to date
        yield InfoMetricFamily("rota", "Which version runs.", value={"version": __version__})
        yield from _simple_counters(self._counters)
        yield from _labelled_counters(self._counters)
        yield from _histograms(self._counters)
        yield from _gauges(now)


def _simple_counters(counters: Counters) -> Iterator[Metric]:
    for name, meaning, count in (
        ("tasks_submitted", "Tasks accepted.", counters.tasks_submitted),
        ("tasks_submitted_channel", "Those of them that came on channels.", counters.tasks_submitted_channel),
        ("tasks_completed", "Tasks that ended well.", counters.tasks_completed),
        ("tasks_cancelled", "Tasks that ended because somebody wished it.", counters.tasks_cancelled),
        ("attempts_started", "Attempts given to workers.", counters.attempts_started),
        ("attempts_lost", "Attempts lost with their worker.", counters.attempts_lost),
        ("workers_lost", "Workers that were given up.", counters.workers_lost),
        ("blackouts", "Times at which so many fell silent that nobody was given up.", counters.blackouts),
        ("results_dropped_stale", "Results of attempts that were no longer current.", counters.results_dropped_stale),
        ("commits", "Commits that are on the record.", counters.commits),
        ("commit_failures", "Commits that the store did not take.", counters.commit_failures),
        (
            "placement_policies_failed",
            "Placement policies of other packages that failed, in whose place one of ours stands in.",
            counters.placement_policies_failed,
        ),
        ("events_dropped", "Events not sent to a listener that was too slow.", counters.events_dropped),
    ):
        yield CounterMetricFamily(f"rota_{name}", meaning, value=count)


def _labelled_counters(counters: Counters) -> Iterator[Metric]:
    failed = CounterMetricFamily("rota_tasks_failed", "Tasks that failed, by cause.", labels=["cause"])
    for cause, count in counters.tasks_failed.items():
        failed.add_metric([cause.value], count)
    yield failed
    fires = CounterMetricFamily("rota_calendar_fires", "Fire times of calendars, by outcome.", labels=["outcome"])
    for outcome, count in counters.calendar_fires.items():
        fires.add_metric([outcome], count)
    yield fires
    requests = CounterMetricFamily(
        "rota_http_requests", "HTTP requests answered.", labels=["route", "method", "status"]
    )
    for (route, method, status), count in counters.http_requests.items():
        requests.add_metric([route, method, str(status)], count)
    yield requests
    calls = CounterMetricFamily("rota_grpc_calls", "gRPC calls that have ended.", labels=["method", "status"])
    for (method, word), count in counters.grpc_calls.items():
        calls.add_metric([method, word], count)
    yield calls


def _histograms(counters: Counters) -> Iterator[Metric]:
    for name, meaning, histogram in (
        ("commit_seconds", "How long commits took.", counters.commit_seconds),
        ("commit_tasks", "How many tasks a commit changed.", counters.commit_tasks),
        ("turn_seconds", "How long turns of the loop took, without their commits.", counters.turn_seconds),
    ):
        buckets = histogram.cumulated()
        yield HistogramMetricFamily(f"rota_{name}", meaning, buckets=buckets, sum_value=histogram.total)


def _gauges(now: Gauges) -> Iterator[Metric]:
    pending = GaugeMetricFamily("rota_tasks_pending", "Tasks that wait, by reason.", labels=["reason"])
    for reason in Reason:
        pending.add_metric([reason.value], now.tasks_pending.get(reason, 0))
    yield pending
    workers = GaugeMetricFamily("rota_workers", "Known workers, by state.", labels=["state"])
    for state in WorkerState:
        workers.add_metric([state.value], now.workers.get(state, 0))
    yield workers
    own = GaugeMetricFamily(
        "rota_placement_only_workers", "Workers that are known by heartbeats, by state.", labels=["state"]
    )
    for state, count in now.own_workers.items():
        own.add_metric([state.value], count)
    yield own
    yield GaugeMetricFamily(
        "rota_placement_only_waiting", "Requests that wait for room on one of them.", value=now.own_waiting
    )
    yield _resources("rota_resource_capacity", "What the workers that are online offer.", now.capacity)
    yield _resources("rota_resource_used", "What is reserved of that.", now.used)
    yield GaugeMetricFamily("rota_tasks_active", "Tasks assigned or running.", value=now.tasks_active)
    yield GaugeMetricFamily("rota_loop_lag_seconds", "How late the loop's last timer was.", value=now.loop_lag_s)
    yield GaugeMetricFamily("rota_event_listeners", "Who listens to events.", value=now.event_listeners)
    yield GaugeMetricFamily("rota_blobs", "Functions and large values that are kept.", value=now.blobs)
    yield GaugeMetricFamily("rota_blob_bytes", "How much they hold.", value=now.blob_bytes)
    yield GaugeMetricFamily("rota_clients", "Clients that have a channel open.", value=now.clients)
    yield GaugeMetricFamily("rota_calendars", "Calendars that are set.", value=now.calendars)
    yield GaugeMetricFamily("rota_ready", "Whether tasks are accepted.", value=int(now.is_ready))
    yield GaugeMetricFamily("rota_slots_quarantined", "Slots that could not be emptied.", value=now.slots_quarantined)
    yield from _queues(now.queues)
    used = GaugeMetricFamily("rota_state_bytes", "What the state directory holds.", labels=["part"])
    for part, size in now.state_bytes.items():
        used.add_metric([part], size)
    yield used
    if now.free_bytes is not None:
        yield GaugeMetricFamily("rota_state_free_bytes", "What can be written there still.", value=now.free_bytes)
    yield GaugeMetricFamily("rota_epoch", "The number of this reign.", value=now.epoch)


def _queues(queues: Sequence[QueueGauge]) -> Iterator[Metric]:
    pending = GaugeMetricFamily("rota_queue_pending", "Tasks of a queue that wait for a worker.", labels=["queue"])
    running = GaugeMetricFamily("rota_queue_running", "Attempts of a queue that are live.", labels=["queue"])
    oldest = GaugeMetricFamily(
        "rota_queue_oldest_seconds", "How long the first task of a queue has waited for a worker.", labels=["queue"]
    )
    for queue in queues:
        pending.add_metric([queue.name], queue.pending)
        running.add_metric([queue.name], queue.running)
        oldest.add_metric([queue.name], queue.oldest_s)
    yield from (pending, running, oldest)


def _resources(name: str, meaning: str, amounts: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=["resource", "unit"])
    for resource, amount in sorted(amounts.items()):
        unit, factor = _UNITS.get(resource, ("units", 1))
        family.add_metric([resource, unit], amount * factor)
    return family

"""Process tasks from end to end: how close to bare posix_spawn, and how long one takes there and back."""

from __future__ import annotations

import http.client
import json
import statistics
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from benchmarks.harness import Cluster, Result, cluster, median_of
from benchmarks.spawn_limit import spawns_per_second
from benchmarks.submits import submit_arrays

__all__ = ["round_trip_ms", "run"]

TASK: Final = {"command": ["/bin/true"]}
BATCH: Final = 5_000
ROUND_TRIPS: Final = 300


def run(*, quick: bool) -> list[Result]:
    """Alternate rounds of ours and of the bare loop, so that both meet the same machine."""
    count, rounds = (4_000, 3) if quick else (20_000, 5)
    with cluster(workers=1) as running:
        round_trips(running, 50)
        tasks_per_second(running, 2_000)
        spawns_per_second(1_000)
        ours, bare = [], []
        for _ in range(rounds):
            bare.append(spawns_per_second(count // 2))
            ours.append(tasks_per_second(running, count))
        latencies_ms = sorted(round_trips(running, ROUND_TRIPS))
    ratios = [one / other for one, other in zip(ours, bare, strict=True)]
    return [
        median_of("bare posix_spawn of /bin/true, one in flight a core", bare, "tasks/s"),
        median_of("/bin/true tasks, output captured, durable", ours, "tasks/s"),
        median_of("  of bare posix_spawn", ratios, "ratio", goal="0.85"),
        Result(
            name="round trip of one task over HTTP ?wait, median",
            value=statistics.median(latencies_ms),
            unit="ms",
            goal="< 3",
        ),
        Result(name="  99th percentile", value=latencies_ms[int(0.99 * len(latencies_ms))], unit="ms"),
    ]


def tasks_per_second(running: Cluster, count: int) -> float:
    """Submit so many tasks in arrays and wait for the last to end."""
    client = running.client
    ended = client.stats()["tasks"]["completed"] + count
    began = time.perf_counter()
    submit_arrays(running, count, batch=min(BATCH, count), task=TASK)
    newest = next(iter(client.tasks({"limit": 1})))[0]
    client.wait(newest["id"], timeout_s=300)  # the last in line; others may end some milliseconds later
    while client.stats()["tasks"]["completed"] < ended:
        time.sleep(0.005)
    return count / (time.perf_counter() - began)


def round_trips(running: Cluster, count: int) -> list[float]:
    """Submit and await one task after another on one connection; return the milliseconds of each."""
    connection = http.client.HTTPConnection(urlsplit(running.url).netloc)
    latencies_ms = [round_trip_ms(connection, TASK) for _ in range(count)]
    connection.close()
    return latencies_ms


def round_trip_ms(connection: http.client.HTTPConnection, task: Mapping[str, object]) -> float:
    """Submit one task and await its end; return the milliseconds that took."""
    body = json.dumps(task).encode()
    began = time.perf_counter()
    answer = _ask(connection, "POST", "/api/v1/tasks", body)
    answer = _ask(connection, "GET", f"/api/v1/tasks/{answer['id']}?wait=300")
    took_ms = 1e3 * (time.perf_counter() - began)
    if answer["state"] != "completed":
        raise SystemExit(f"a task {answer['state']}: {answer['message']}")
    return took_ms


def _ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
    connection.request(method, path, body)
    answer: dict[str, Any] = json.loads(connection.getresponse().read())
    return answer

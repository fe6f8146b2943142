"""Workers over gRPC next to workers over WebSocket: the same tasks on two clusters, in turn."""

from __future__ import annotations

import statistics
from typing import Final

from benchmarks.functions import LANES, OFFER, functions_per_second
from benchmarks.harness import Result, cluster, median_of
from benchmarks.round_trip import round_trips_ms
from benchmarks.work import connect, wait_for_lanes

__all__ = ["run"]

WARM_UP: Final = 2_000
OVER_GRPC: Final = ("--transport=grpc", "--grpc-port=0")


def run(*, quick: bool) -> list[Result]:
    """Alternate rounds of both, so that both meet the same machine. The client is on a WebSocket in either."""
    tasks, trips, rounds = (10_000, 100, 3) if quick else (50_000, 500, 5)
    each_trip: dict[str, list[float]] = {"WebSocket": [], "gRPC": []}
    each_rate: dict[str, list[float]] = {"WebSocket": [], "gRPC": []}
    with (
        cluster(workers=1, arguments=OFFER) as one,
        cluster(workers=1, arguments=[*OFFER, *OVER_GRPC]) as other,
        connect(one.url) as websocket,
        connect(other.url) as grpc,
    ):
        clients = {"WebSocket": websocket, "gRPC": grpc}
        for client in clients.values():
            wait_for_lanes(client, LANES)
            functions_per_second(client, WARM_UP)
        for _ in range(rounds):
            for name, client in clients.items():
                each_trip[name].append(statistics.median(round_trips_ms(client, trips)))
                each_rate[name].append(functions_per_second(client, tasks))
    trip_ratios = [ours / theirs for ours, theirs in zip(each_trip["gRPC"], each_trip["WebSocket"], strict=True)]
    rate_ratios = [ours / theirs for ours, theirs in zip(each_rate["gRPC"], each_rate["WebSocket"], strict=True)]
    return [
        *(
            median_of(f"round trip of one function, worker over {name}, median", each_trip[name], "ms")
            for name in clients
        ),
        median_of("  gRPC to WebSocket", trip_ratios, "ratio"),
        *(median_of(f"no-op functions, worker over {name}", each_rate[name], "tasks/s") for name in clients),
        median_of("  gRPC to WebSocket", rate_ratios, "ratio"),
    ]

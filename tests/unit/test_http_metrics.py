"""The metrics page: what was counted is on it, it is well-formed, and every metric is documented."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rota.coordinator.metrics import Counters, Gauges, Histogram, MetricsPage, QueueGauge
from rota.core.model import Cause, Reason, WorkerState
from tests.support.house import ROOT

GAUGES = Gauges(
    tasks_pending={Reason.RESOURCES: 7},
    tasks_active=3,
    workers={WorkerState.ONLINE: 2},
    capacity={"cpu": 8000, "memory": 1024, "licence": 4},
    used={"cpu": 500},
    loop_lag_s=0.002,
    event_listeners=1,
    blobs=6,
    blob_bytes=1 << 20,
    calendars=2,
    clients=2,
    epoch=5,
    own_workers={WorkerState.ONLINE: 2},
    own_waiting=1,
    is_ready=True,
    queues=[QueueGauge("batch", 4, 2, 61.5)],
    slots_quarantined=1,
    state_bytes={"database": 4096, "logs": 0},
    free_bytes=1 << 30,
)


def samples(counters: Counters) -> dict[str, float]:
    """All samples of a page, by name and labels."""
    page, _ = MetricsPage(counters, lambda: GAUGES).render()
    return {
        name + "".join(f",{key}={value}" for key, value in sorted(labels.items())): value
        for family in text_string_to_metric_families(page.decode())
        for name, labels, value, *_ in family.samples
    }


def test_what_was_counted_is_on_the_page() -> None:
    counters = Counters()
    counters.tasks_submitted += 3
    counters.tasks_failed[Cause.OOM] += 1
    counters.count_request("/api/v1/tasks", "POST", 201)
    counters.count_request("/api/v1/tasks", "POST", 201)
    counters.count_call("rota.v1.Rota.GetTask", "NOT_FOUND")
    found = samples(counters)
    assert found["rota_grpc_calls_total,method=rota.v1.Rota.GetTask,status=NOT_FOUND"] == 1
    assert found["rota_tasks_submitted_total"] == 3
    assert found["rota_tasks_failed_total,cause=oom"] == 1
    assert found["rota_tasks_failed_total,cause=exit"] == 0
    assert found["rota_http_requests_total,method=POST,route=/api/v1/tasks,status=201"] == 2


def test_what_is_looked_up_is_in_the_units_of_prometheus() -> None:
    found = samples(Counters())
    assert found["rota_tasks_pending,reason=resources"] == 7
    assert found["rota_tasks_pending,reason=tags"] == 0
    assert found["rota_queue_pending,queue=batch"] == 4
    assert found["rota_queue_oldest_seconds,queue=batch"] == 61.5
    assert (found["rota_ready"], found["rota_state_free_bytes"]) == (1, 1 << 30)
    assert found["rota_state_bytes,part=database"] == 4096
    assert found["rota_workers,state=online"] == 2
    assert found["rota_resource_capacity,resource=cpu,unit=cores"] == 8
    assert found["rota_resource_capacity,resource=memory,unit=bytes"] == 1 << 30
    assert found["rota_resource_capacity,resource=licence,unit=units"] == 4
    assert found["rota_resource_used,resource=cpu,unit=cores"] == 0.5
    assert found["rota_clients"] == 2
    assert found["rota_loop_lag_seconds"] == 0.002
    assert (found["rota_blobs"], found["rota_blob_bytes"]) == (6, 1 << 20)
    assert found["process_resident_memory_bytes"] > 0


def test_counts_that_are_brought_over_by_the_look_are_on_the_same_page() -> None:
    counters = Counters()

    def look() -> Gauges:
        counters.attempts_started = 9
        return GAUGES

    page, content_type = MetricsPage(counters, look).render()
    assert b"rota_attempts_started_total 9.0" in page
    assert content_type.startswith("text/plain")


@pytest.mark.parametrize("value,bucket", [(0.0, 0), (1.0, 0), (1.5, 1), (2.0, 1), (9.0, 2)])
def test_a_value_counts_for_the_bucket_whose_bound_it_reaches(value: float, bucket: int) -> None:
    histogram = Histogram((1.0, 2.0))
    histogram.observe(value)
    assert histogram.counts.index(1) == bucket
    assert histogram.cumulated()[-1] == ("+Inf", 1)
    assert histogram.total == value


def test_histograms_are_cumulated_on_the_page() -> None:
    counters = Counters()
    for seconds in (0.0004, 0.003, 0.003, 99.0):
        counters.commit_seconds.observe(seconds)
    found = samples(counters)
    assert found["rota_commit_seconds_bucket,le=0.0005"] == 1
    assert found["rota_commit_seconds_bucket,le=0.005"] == 3
    assert found["rota_commit_seconds_bucket,le=+Inf"] == found["rota_commit_seconds_count"] == 4


def test_every_metric_is_documented_and_no_other() -> None:
    reference = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    counters = Counters()
    counters.count_request("/", "GET", 200)
    page, _ = MetricsPage(counters, lambda: GAUGES).render()
    of_types = {"counter": "_total", "info": "_info"}
    ours = {
        family.name + of_types.get(family.type, "")
        for family in text_string_to_metric_families(page.decode())
        if family.name.startswith("rota")
    }
    ours = {"rota_info" if name == "rota_info_info" else name for name in ours}
    documented = {line.split("`")[1].split("{")[0] for line in reference.splitlines() if line.startswith("| `rota_")}
    assert documented == ours

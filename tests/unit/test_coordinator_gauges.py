"""What the metrics say of queues: enough to be woken when one does not move, and never too many series."""

from __future__ import annotations

import pytest

from rota.coordinator.gauges import OTHERS, QUEUES_MAX, queue_gauges
from rota.coordinator.metrics import QueueGauge
from tests.support.core import Core


def gauges(core: Core) -> dict[str, QueueGauge]:
    return {gauge.name: gauge for gauge in queue_gauges(core.state, now=core.now, wall=core.wall)}


def test_the_first_that_waits_tells_how_long_a_queue_stands_still() -> None:
    core = Core()
    core.submit(queue="batch")
    core.pass_time(100.0)
    core.submit(2, queue="batch")
    core.submit(queue="other")
    core.pass_time(5.0)
    found = gauges(core)
    assert (found["batch"].pending, found["batch"].running) == (3, 0)
    assert found["batch"].oldest_s == pytest.approx(105.0, abs=1.5)
    assert found["other"].oldest_s == pytest.approx(5.0, abs=1.5)
    assert found["default"] == QueueGauge("default", 0, 0, 0.0)


def test_what_is_paused_waits_as_somebody_wished() -> None:
    core = Core()
    core.set_queue("batch", paused=True)
    core.hello()
    core.submit(queue="batch")
    core.pass_time(100.0)
    assert gauges(core)["batch"] == QueueGauge("batch", 1, 0, 0.0)


def test_names_without_end_make_no_series_without_end() -> None:
    core = Core()
    for number in range(QUEUES_MAX + 20):
        core.submit(2 if number == 7 else 1, queue=f"q{number}")
    found = gauges(core)
    assert len(found) == QUEUES_MAX + 1
    assert found["q7"].pending == 2
    assert sum(gauge.pending for gauge in found.values()) == QUEUES_MAX + 21
    assert found[OTHERS].pending == 20

"""The load of ``rota coordinator --workload=true``: synthetic tasks without end, for a cluster to look at.

It submits through the same service as REST does, so limits, refusals and the record are those of any client. Without a
worker nothing is submitted. No task asks for more than the largest worker has, and what would only make a long queue
longer is left out.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from rota.coordinator.service import Service
from rota.core.errors import RotaError
from rota.core.model import TaskState, WorkerState
from rota.wire.backoff import reconnect_delay_s
from rota.workloads import WorkloadTask, make_arrivals, make_durations, make_mix
from rota.workloads.feed import TaskFeed, fitted, largest_of

__all__ = ["Generator"]

QUEUE: Final = "workload"
"""Apart from what people submit: it can be paused, weighted and listed by itself."""

PATTERN: Final = "sinusoidal"
MIX: Final = "mixed"
RATE: Final = 1.0
"""Tasks a second: on two cores they mostly run, and wait at the tops of the waves."""

DURATIONS: Final = "exponential"
MEAN_S: Final = 0.5
ROUND_S: Final = 240.0
"""Of one run through the pattern; then it begins anew. Four waves, of a minute each."""

PENDING_MAX: Final = 200
"""While more tasks wait in the cluster, nothing is added: minutes of this load, on whatever machine."""

BATCH_MAX: Final = 100
"""In one request: far more than fall due at once, unless the process stood still."""

log = structlog.get_logger(__name__)


class Generator:
    """Submits tasks for as long as it runs.

    Args:
        service: Where to.
        seed: Of all chance.
    """

    def __init__(self, service: Service, *, seed: int) -> None:
        self._service = service
        self._rng = random.Random(seed)

    async def run(self) -> None:
        """Run through the pattern again and again. A refusal is waited out; it never ends the process."""
        log.info("workload", pattern=PATTERN, mix=MIX, rate=RATE, queue=QUEUE)
        while True:
            arrivals = make_arrivals(PATTERN, rate=RATE, duration_s=ROUND_S)
            mix = make_mix(MIX, durations=make_durations(DURATIONS, mean_s=MEAN_S))
            await self._run_through(TaskFeed(arrivals, mix, self._rng))

    async def _run_through(self, feed: TaskFeed) -> None:
        began, failures = time.monotonic(), 0
        while feed.next_s is not None:
            await asyncio.sleep(began + feed.next_s - time.monotonic())
            due = feed.take_due(time.monotonic() - began, most=BATCH_MAX)
            try:
                await self._submit(due)
                failures = 0
            except RotaError as error:
                failures += 1
                log.warning("workload_held_back", error=str(error))
                await asyncio.sleep(reconnect_delay_s(failures, self._rng))

    async def _submit(self, tasks: Sequence[WorkloadTask]) -> None:
        """Submit tasks, unless nobody could run them or too much waits already."""
        largest = await self._find_largest()
        waiting = (await self._service.stats()).tasks.get(TaskState.PENDING, 0)
        # The clock may be early by a hair: then there are none.
        if tasks and largest is not None and waiting < PENDING_MAX:
            requests = [fitted(task, largest).request(queue=QUEUE) for task in tasks]
            await self._service.submit(requests, is_array=True)

    async def _find_largest(self) -> Mapping[str, int] | None:
        """What the largest worker offers that could run them."""
        return largest_of(
            [
                dict(node.offer.resources)
                for node in await self._service.nodes()
                if node.state is WorkerState.ONLINE and "workload" in node.offer.kinds
            ]
        )

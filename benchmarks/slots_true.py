"""How close slots come to starting programs with nothing around: ``/bin/true``, output captured, 2 lanes.

The bare loops are ``posix_spawn`` and ``wait``, one program in flight each, no pipes and no
environment: what the kernel takes by itself. Each is run free, as slots are, and pinned to
one core, which spares the kernel its choice of a core, but which programs would inherit. Rounds of
all three alternate, so that they meet the same machine; the ratios are of the medians.

Run: ``python -m benchmarks.slots_true [tasks a round] [rounds]``
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from typing import Final

import uvloop

from rota.core.model import LaneId, TaskId, TaskSeq
from rota.core.protocol import Ended, Mark, OutputChunk, Started
from rota.core.spec import TaskSpec, encode_spec
from rota.worker.slots.base import Work
from rota.worker.slots.pool import SlotPool

LANES: Final = 2
LINE_LENGTH: Final = 128
"""Attempts in a lane's line: about 100 ms of work, as the coordinator keeps it."""

SPEC: Final = encode_spec(TaskSpec(command=["/bin/true"]))


class Feeder:
    """Keeps the lines full, as an agent does, until enough have ended."""

    def __init__(self) -> None:
        self.pool = SlotPool(events=self, worker_id="bench")
        self._waiting: list[Work] = []
        self._left = 0
        self._last = 0
        self._done: asyncio.Future[None] | None = None

    async def run(self, count: int) -> float:
        """Run ``count`` programs; return how many a second."""
        first = self._last + 1
        self._last += count
        self._waiting = [
            Work(key=(TaskSeq(n), 1), lane=LaneId(n % LANES), id=TaskId(f"t{n}"), spec=SPEC)
            for n in range(first, first + count)
        ]
        self._waiting.reverse()
        self._left = count
        self._done = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        self._feed(LANES * LINE_LENGTH)
        await self._done
        return count / (time.perf_counter() - began)

    def on_events(self, started: list[Started], ended: list[Ended], output: list[OutputChunk]) -> None:
        assert not started or not output
        assert all(end.exit_code == 0 for end in ended), ended
        self._left -= len(ended)
        self._feed(len(ended))
        if not self._left and self._done is not None:
            self._done.set_result(None)

    def on_marks(self, marks: list[Mark]) -> None:
        raise AssertionError(f"programs don't say how far they are: {marks}")

    def on_quarantined(self, lane: LaneId, message: str) -> None:
        raise AssertionError(f"lane {lane}: {message}")

    def _feed(self, count: int) -> None:
        works = [self._waiting.pop() for _ in range(min(count, len(self._waiting)))]
        if works:
            self.pool.run(works)


def run_bare(count: int, *, is_pinned: bool) -> float:
    """Run ``count`` programs in bare loops; return how many a second."""
    cores = sorted(os.sched_getaffinity(0))
    began = time.perf_counter()
    chosen = [cores[lane % len(cores)] if is_pinned else None for lane in range(LANES)]
    for pid in [os.fork() or _bare_loop(count // LANES, core) for core in chosen]:
        assert os.waitpid(pid, 0)[1] == 0
    return count / (time.perf_counter() - began)


def _bare_loop(count: int, core: int | None) -> int:
    if core is not None:
        os.sched_setaffinity(0, {core})
    for _ in range(count):
        os.posix_spawn("/bin/true", ["true"], {})
        assert os.wait()[1] == 0
    os._exit(0)


async def measure(count: int, rounds: int) -> dict[str, list[float]]:
    """Alternate slots and bare loops; return the rates of each."""
    rates: dict[str, list[float]] = {"slots": [], "bare, free": [], "bare, pinned": []}
    feeder = Feeder()
    await feeder.pool.start()
    await feeder.run(200)
    for _ in range(rounds):
        rates["slots"].append(await feeder.run(count))
        rates["bare, free"].append(run_bare(count, is_pinned=False))
        rates["bare, pinned"].append(run_bare(count, is_pinned=True))
    await feeder.pool.close(kill=False)
    return rates


def main() -> None:
    count, rounds = (int(text) for text in [*sys.argv[1:], "1500", "7"][:2]) if len(sys.argv) > 2 else (1500, 7)
    rates = uvloop.run(measure(count, rounds))
    for name, found in rates.items():
        shown = " ".join(f"{rate:,.0f}" for rate in sorted(found))
        print(f"{name:<13} {statistics.median(found):7,.0f}/s   ({shown})")
    for name in ("bare, free", "bare, pinned"):
        ratio = statistics.median(rates["slots"]) / statistics.median(rates[name])
        best = max(rates["slots"]) / max(rates[name])
        print(f"slots / {name}: {ratio:.2f} of the medians, {best:.2f} of the best rounds")


if __name__ == "__main__":
    main()

"""One slot of functions alone: what slot and runner cost for each call, and how long one takes there and back.

Orders go straight into the slot's socket, without keeper, pool or agent. Processor time is the kernel's, of the
two processes; the goal is under 8 µs a call for both together.

Run: ``python -m benchmarks.function_slot [calls a round] [rounds]``
"""

from __future__ import annotations

import hashlib
import os
import pickle
import resource
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import cloudpickle

from benchmarks.harness import Result, calibrate, median_of, show
from rota.worker.slots.frames import FunctionOrder, Unpacker, encode_orders, pack
from rota.worker.slots.functions.slot import run_function_slot

FRAME_ORDERS: Final = 128
"""Orders in one message: what an agent hands to a lane at once."""

IN_FLIGHT: Final = 3000
"""Orders in the slot at once: 100 ms of work, as the coordinator keeps it."""

ROUND_TRIPS: Final = 2000

ARGUMENTS: Final = b"\0" + pickle.dumps((), protocol=5)


class Slot:
    """A slot, and the agent's end of its socket."""

    def __init__(self, folder: Path) -> None:
        near, far = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            near.close()
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            run_function_slot(socket.socket(fileno=far.detach()), file_limit=limit)
            os._exit(0)
        far.close()
        self._socket = near
        self._unpacker = Unpacker()
        self._last = 0
        pickled = cloudpickle.dumps(do_nothing)
        self._path = folder / hashlib.sha256(pickled).hexdigest()
        self._path.write_bytes(pickled)
        near.sendall(pack(("setup", 1 << 20, 1.0, {"PATH": os.defpath})))
        self.run(FRAME_ORDERS)
        (runner,) = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        self.runner_pid = int(runner)

    def run(self, count: int) -> int:
        """Keep the line full until ``count`` calls have ended; return how many reports told of them."""
        frames = [self._frame(min(FRAME_ORDERS, count - at)) for at in range(0, count, FRAME_ORDERS)]
        ended = sent = reports = 0
        while ended < count:
            while frames and sent - ended < IN_FLIGHT:
                frame, size = frames.pop()
                self._socket.sendall(frame)
                sent += size
            for message in self._unpacker.feed(self._socket.recv(1 << 18)):
                records = message[1]
                assert isinstance(records, list)
                assert all(record[2] is None for record in records), records
                ended += len(records)
                reports += 1
        return reports

    def round_trip(self) -> float:
        """Run a single call; return the seconds until its result is here."""
        frame, _ = self._frame(1)
        began = time.perf_counter()
        self._socket.sendall(frame)
        while not self._unpacker.bodies(self._socket.recv(1 << 18)):
            pass
        return time.perf_counter() - began

    def close(self) -> None:
        self._socket.sendall(pack(("exit",)))
        os.waitpid(self.pid, 0)

    def _frame(self, count: int) -> tuple[bytes, int]:
        orders = [self._order() for _ in range(count)]
        return pack(("calls", encode_orders(orders))), count

    def _order(self) -> FunctionOrder:
        self._last += 1
        facts = f"t{self._last}", "default", "bench"
        return (self._last, 1, str(self._path), ARGUMENTS, None, None, facts, {"blob_dir": str(self._path.parent)})


def do_nothing() -> None:
    """The function that is called."""


@contextmanager
def running_slot() -> Iterator[Slot]:
    with tempfile.TemporaryDirectory() as folder:
        slot = Slot(Path(folder))
        try:
            yield slot
        finally:
            slot.close()


def cpu_ns(pid: int) -> int:
    """The processor time of a process of one thread, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def measure(count: int, rounds: int) -> list[Result]:
    rates, slot_us, runner_us = [], [], []
    with running_slot() as slot:
        slot.run(20_000)
        for _ in range(rounds):
            before = cpu_ns(slot.pid), cpu_ns(slot.runner_pid)
            began = time.perf_counter()
            slot.run(count)
            rates.append(count / (time.perf_counter() - began))
            slot_us.append((cpu_ns(slot.pid) - before[0]) / count / 1e3)
            runner_us.append((cpu_ns(slot.runner_pid) - before[1]) / count / 1e3)
        trips_us = sorted(1e6 * slot.round_trip() for _ in range(ROUND_TRIPS))
    both = [one + other for one, other in zip(slot_us, runner_us, strict=True)]
    return [
        median_of("no-op functions through one slot, in frames of 128", rates, "calls/s"),
        median_of("  processor time of the slot", slot_us, "µs"),
        median_of("  processor time of the runner", runner_us, "µs"),
        median_of("  of both", both, "µs", goal="< 8"),
        Result(name="round trip of one call, median", value=statistics.median(trips_us), unit="µs"),
        Result(name="  99th percentile", value=trips_us[int(0.99 * ROUND_TRIPS)], unit="µs"),
    ]


def main() -> None:
    count, rounds = (int(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 2 else (100_000, 5)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as in a keeper, whose slots it is inherited by
    loops = [calibrate()]
    results = measure(count, rounds)
    loops.append(calibrate())
    show([*results, median_of("calibration: steps of a plain loop, before and after", loops, "M/s")])


if __name__ == "__main__":
    main()

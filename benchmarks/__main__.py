"""Run the benchmarks: ``python -m benchmarks [--quick] [NAME …]``.

Figures of one run on one machine, next to a calibration loop. These machines are noisy: look at the ratios
and at the spread before you believe a single figure.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable
from typing import Final

from benchmarks import (
    blob_transfers,
    core_placement,
    functions,
    lanes,
    large_values,
    peers,
    pending_memory,
    process_tasks,
    round_trip,
    schedule,
    simulation,
    snippets,
    submits,
    transports,
)
from benchmarks.harness import Result, calibrate, median_of, show

BENCHMARKS: Final[dict[str, Callable[..., list[Result]]]] = {
    "process-tasks": process_tasks.run,
    "snippets": snippets.run,
    "submits": submits.run,
    "pending-memory": pending_memory.run,
    "functions": functions.run,
    "round-trip": round_trip.run,
    "large-values": large_values.run,
    "lanes": lanes.run,
    "mixed": lanes.run_mixed,
    "schedule": schedule.run,
    "peers": peers.run,
    "transports": transports.run,
    "blob-transfers": blob_transfers.run,
    "core-placement": core_placement.run,
    "simulation": simulation.run,
}


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all if none is given")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    given = parser.parse_args()
    unknown = set(given.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"there is no benchmark {sorted(unknown)[0]!r}: choose from {', '.join(BENCHMARKS)}")
    sys.stdout.write(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, "
        f"Python {platform.python_version()}\n"
    )
    loops = [calibrate()]
    for name in given.names or BENCHMARKS:
        sys.stdout.write(f"\n{name}\n")
        show(BENCHMARKS[name](quick=given.quick))
        loops.append(calibrate())
    sys.stdout.write("\n")
    show([median_of("calibration: steps of a plain loop, between the benchmarks", loops, "M/s")])
    return 0


if __name__ == "__main__":
    sys.exit(main())

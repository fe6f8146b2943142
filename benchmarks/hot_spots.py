"""For tuning: what each process of a busy cluster does, by py-spy, process by process.

No-op functions are mapped without end while one process after another is sampled. Printed are the functions with
the most time of their own, as shares of all samples of a process.

Run: python -m benchmarks.hot_spots [--seconds 5] [--top 15]     py-spy must be on the path or beside the interpreter
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.functions import LANES, OFFER, WARM_UP, functions_per_second
from benchmarks.harness import cluster
from benchmarks.processes import BELOW_AGENT, children_of, is_coordinator
from benchmarks.work import connect, wait_for_lanes

__all__ = ["self_times"]


def self_times(folded: str) -> Counter[str]:
    r"""Count the samples by the innermost function of each folded stack.

    >>> self_times("main;load 3\nmain;load;read 2\nmain;read 1").most_common()
    [('load', 3), ('read', 3)]
    """
    samples: Counter[str] = Counter()
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        samples[stack.rpartition(";")[2]] += int(count)
    return samples


def processes_of(cluster_pid: int) -> Iterator[tuple[str, int]]:
    """Yield role and process: the client, the coordinator, and a chain of one each from the agent down."""
    yield "client", os.getpid()
    for child in children_of(cluster_pid):
        if is_coordinator(child):
            yield "coordinator", child
        else:
            yield "agent", child
            yield from _chain(child)


def _chain(agent: int) -> Iterator[tuple[str, int]]:
    """The keeper of functions is the one that was started last."""
    below = children_of(agent)
    for role in BELOW_AGENT:
        if below:
            yield role.removesuffix("s"), below[-1]
            below = children_of(below[-1])


def sample(pid: int, seconds: int, py_spy: str) -> Counter[str]:
    with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        command = [py_spy, "record", "--pid", str(pid), "--duration", str(seconds), "--format", "raw", "--nonblocking"]
        done = subprocess.run([*command, "--rate", "500", "-o", file.name], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"py-spy ended with {done.returncode}: {done.stderr.strip()}")
        return self_times(Path(file.name).read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="of each process")
    parser.add_argument("--top", type=int, default=15, help="functions of each process")
    given = parser.parse_args()
    py_spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if py_spy is None:
        raise SystemExit("py-spy is not installed: pip install py-spy")
    is_over = threading.Event()
    with cluster(workers=1, arguments=OFFER) as running, connect(running.url) as client:
        wait_for_lanes(client, LANES)

        def keep_busy() -> None:
            while not is_over.is_set():
                functions_per_second(client, 4 * WARM_UP)

        load = threading.Thread(target=keep_busy, name="load")
        load.start()
        try:
            for role, pid in processes_of(running.pid):
                samples = sample(pid, given.seconds, py_spy)
                sys.stdout.write(f"\n{role}: {samples.total():,} samples with work\n")
                for function, count in samples.most_common(given.top):
                    sys.stdout.write(f"{count / samples.total():7.1%}  {function}\n")
        finally:
            is_over.set()
            load.join()


if __name__ == "__main__":
    main()

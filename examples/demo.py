"""The demo: a cluster on this machine does real work, and loses a worker on the way.

Starts a coordinator and two workers on the embedded store, through the same command that users
type, and then:

1. computes SHA-256 and line count of every source file of Python's standard library in 40
   tasks, and checks the totals against a direct count;
2. computes 1,000 digits of π by code that travels with its task, in Python and, with a toolchain, in Go,
   and checks them against another way of computing them;
3. runs a task that fails twice and then succeeds;
4. cancels a task that would run for an hour;
5. kills a worker with -9 in the middle of its tasks, which run again.

Prints what ran where and for how long. Exit status 0 means that all of it is as it should be.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from rota.client.http import HttpClient

HASH_TASKS: Final = 40
DIGITS: Final = 1000
SNIPPETS: Final = Path(__file__).parent / "snippets"
WAIT_S: Final = 120.0

HASHER: Final = """
import hashlib, json, sys
lines = 0
digests = {}
for path in sys.stdin.read().splitlines():
    data = open(path, 'rb').read()
    lines += data.count(b'\\n')
    digests[path] = hashlib.sha256(data).hexdigest()
print(json.dumps({'lines': lines, 'digests': digests}))
"""

Json = dict[str, Any]


def main() -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rota-demo-") as state_dir, cluster(Path(state_dir)) as client:
        say("1. SHA-256 and line count of every source file of the standard library, in 40 tasks")
        hash_library(client)
        say(f"2. {DIGITS:,} digits of π, by code instead of a command")
        compute_pi(client)
        say("3. A task that fails twice and then succeeds")
        retry_until_it_works(client)
        say("4. A task that is cancelled")
        cancel_a_task(client)
        say("5. A worker is killed with -9; its tasks run again")
        lose_a_worker(client)
    say(f"All as it should be, in {time.monotonic() - began:.1f} s. Now try: .venv/bin/rota up")
    return 0


def hash_library(client: HttpClient) -> None:
    """Spread real work over the workers, and check what comes back against a direct count."""
    files = library_files()
    specs = [
        {
            "name": f"hash-{number:02}",
            "command": [sys.executable, "-c", HASHER],
            "stdin": "\n".join(str(path) for path in files[number::HASH_TASKS]),
            "labels": {"demo": "hash"},
        }
        for number in range(HASH_TASKS)
    ]
    began = time.monotonic()
    tasks = wait_all(client, submit_all(client, specs))
    seconds = time.monotonic() - began
    check(all(task["state"] == "completed" for task in tasks), "every hash task completed")
    results = [json.loads(output_of(client, task)) for task in tasks]
    digests = {path: digest for result in results for path, digest in result["digests"].items()}
    lines = sum(result["lines"] for result in results)
    contents = {str(path): path.read_bytes() for path in files}
    check(lines == sum(data.count(b"\n") for data in contents.values()), "the line count is that of a direct count")
    check(
        digests == {path: hashlib.sha256(data).hexdigest() for path, data in contents.items()},
        "every digest is that of a direct computation",
    )
    show(tasks)
    say(f"   {len(files):,} files, {lines:,} lines, {seconds:.1f} s; totals checked against a direct count")


def compute_pi(client: HttpClient) -> None:
    """Code is sent as it stands in a file; a worker needs nothing but Python, or a Go toolchain."""
    files = {"python": "pi.py", "go": "pi.go"}
    offered = {kind for node in client.nodes() for kind in node["kinds"]}
    for kind in files.keys() - offered:
        say(f"   {kind} is left out: no worker found its toolchain (on Debian: apt-get install golang-go)")
    specs = [
        {"name": file, "kind": kind, "code": (SNIPPETS / file).read_text(), "command": [str(DIGITS)]}
        for kind, file in files.items()
        if kind in offered
    ]
    tasks = wait_all(client, submit_all(client, specs))
    check(all(task["state"] == "completed" for task in tasks), "every snippet completed")
    known = pi_by_spigot(DIGITS)
    for task in tasks:
        digits = output_of(client, task).decode().strip()
        check(digits == known, f"the digits of {task['name']} are those of another computation")
        say(f"   {task['name']}: {digits[:22]}…{digits[-10:]}, {len(digits) - 2:,} digits, checked")
    show(tasks)


def pi_by_spigot(digits: int) -> str:
    """π with so many digits behind the point, by another way than the snippets go.

    References:
        J. Gibbons, "Unbounded Spigot Algorithms for the Digits of Pi", American Mathematical Monthly 113(4), 2006.
    """
    q, r, t, k, m, x = 1, 0, 1, 1, 3, 3
    found = ""
    while len(found) <= digits:
        if 4 * q + r - t < m * t:
            found += str(m)
            q, r, m = 10 * q, 10 * (r - m * t), (10 * (3 * q + r)) // t - 10 * m
        else:
            q, r, t, k, m, x = q * k, (2 * q + r) * x, t * x, k + 1, (q * (7 * k + 2) + r * x) // (t * x), x + 2
    return f"{found[0]}.{found[1:]}"


def retry_until_it_works(client: HttpClient) -> None:
    """Retries are counted, delayed, and each attempt stays on the record."""
    spec = {
        "name": "flaky",
        "shell": 'echo "attempt $ROTA_ATTEMPT"; test "$ROTA_ATTEMPT" -ge 3',
        "retries": 2,
        "backoff": 0.2,
    }
    (task,) = wait_all(client, submit_all(client, [spec]))
    check(task["state"] == "completed" and task["attempt"] == 3, "the third attempt succeeded")
    for attempt in client.attempts(task["id"]):
        say(f"   attempt {attempt['number']} on {attempt['worker']}: exit code {attempt['exit_code']}")
    show([task])


def cancel_a_task(client: HttpClient) -> None:
    """A cancel ends the whole process tree of a running task."""
    (task_id,) = submit_all(client, [{"name": "endless", "shell": "sleep 3600 & sleep 3600"}])
    until(lambda: client.task(task_id)["state"] == "running", "the task to run")
    client.cancel(task_id)
    (task,) = wait_all(client, [task_id])
    check(task["state"] == "cancelled", "the task was cancelled")
    show([task])


def lose_a_worker(client: HttpClient) -> None:
    """What a dead worker had runs again, here or there, and counts as the machine's fault, not the task's."""
    specs = [{"name": f"nap-{number}", "command": ["sleep", "1.5"]} for number in range(6)]
    task_ids = submit_all(client, specs)
    victims = until(
        lambda: [t for t in map(client.task, task_ids) if t["state"] == "running" and t["worker"] == "w2"],
        "a task to run on w2",
    )
    pid = next(node for node in client.nodes() if node["id"] == "w2")["pid"]
    os.kill(pid, signal.SIGKILL)
    say(f"   killed worker w2 (pid {pid}) while it ran {', '.join(task['name'] for task in victims)}")
    tasks = wait_all(client, task_ids)
    check(all(task["state"] == "completed" for task in tasks), "every nap completed")
    moved = [task for task in tasks if task["losses_used"]]
    check({task["id"] for task in moved} >= {task["id"] for task in victims}, "the lost attempts are on the record")
    check(all(task["attempt"] > 1 for task in moved), "the lost tasks ran again")
    show(tasks)


@contextmanager
def cluster(state_dir: Path) -> Iterator[HttpClient]:
    """Start ``rota up`` with two workers on a free port, and stop it in the end."""
    command = [sys.executable, "-m", "rota", "up", "--workers", "2", "--port", "0", "--state-dir", str(state_dir)]
    # A cluster of one machine can be quick to notice a dead worker.
    command += ["--heartbeat", "0.5", "--suspicious-after", "1.5", "--offline-after", "3", "--grace", "3"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        greeting = process.stdout.readline()
        address = re.search(r"http://\S+", greeting)
        if address is None:
            raise SystemExit("demo failed: the cluster did not come up; what it wrote above says why")
        say(greeting.strip())
        with HttpClient(address[0]) as client:
            yield client
    finally:
        process.terminate()
        process.wait(timeout=30)


def library_files() -> list[Path]:
    """The source files of the standard library, without what was installed beside it."""
    library = Path(sysconfig.get_path("stdlib"))
    return sorted(path for path in library.rglob("*.py") if "site-packages" not in path.parts)


def submit_all(client: HttpClient, specs: list[Json]) -> list[str]:
    return [task["id"] for task in client.submit_many(json.dumps(specs).encode())]


def wait_all(client: HttpClient, task_ids: list[str]) -> list[Json]:
    return [client.wait(task_id, timeout_s=WAIT_S) for task_id in task_ids]


def output_of(client: HttpClient, task: Json) -> bytes:
    return b"".join(client.logs(task["id"], {"stream": "stdout"}))


def until(condition: Any, what: str) -> Any:
    """Look until there is something to see, for a bounded time."""
    deadline = time.monotonic() + WAIT_S
    while not (seen := condition()):
        check(time.monotonic() < deadline, f"waiting for {what}")
        time.sleep(0.02)
    return seen


def show(tasks: list[Json]) -> None:
    """What ran where and for how long, a line a worker and a line a task if they are few."""
    if len(tasks) > 8:
        for worker in sorted({task["worker"] for task in tasks}):
            mine = [task for task in tasks if task["worker"] == worker]
            busy = sum(task["cpu_seconds"] for task in mine)
            say(f"   {worker}: {len(mine)} tasks, {busy:.1f} cpu seconds")
        return
    for task in tasks:
        attempts = f", attempt {task['attempt']}" if task["attempt"] > 1 else ""
        say(f"   {task['name']:10} {task['state']:10} on {task['worker']} in {seconds(task):.2f} s{attempts}")


def seconds(task: Json) -> float:
    """How long the last attempt of a task took."""
    started, ended = (datetime.fromisoformat(task[name]) for name in ("started_at", "ended_at"))
    return (ended - started).total_seconds()


def check(condition: bool, what: str) -> None:
    if not condition:
        raise SystemExit(f"demo failed: {what}: this is not so")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

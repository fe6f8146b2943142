"""Snippets of Python from submit to record on a real worker: what they find, how they fail, what they leave."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rota.client.http import Json
from rota.core.errors import RotaError
from tests.support.disks import fill, small_disk
from tests.support.real_cluster import Cluster
from tests.support.waiting import wait_until

SWEEPS_SOON = "from rota.worker import scratch; scratch.SWEEP_PERIOD_S = 0.1"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("snippets")
    with Cluster(folder) as running:
        running.start_coordinator()
        running.start_worker(
            "w1", "--resources=cpu=8000,memory=2G", "--output-limit=16K", f"--cache-dir={folder}/cache"
        )
        yield running
        assert "Traceback" not in running.coordinator.output()


def run(cluster: Cluster, code: str, **spec: object) -> Json:
    """Submit a snippet of Python, and return it as it ended."""
    return cluster.wait_for_end(cluster.client.submit({"kind": "python", "code": code, **spec})["id"], timeout_s=60.0)


def output(cluster: Cluster, task: Json, **query: str | int) -> str:
    return b"".join(cluster.client.logs(task["id"], query)).decode()


def scratch_of(cluster: Cluster) -> list[str]:
    """The scratch directories that there are."""
    return [path.name for path in cluster.folder.glob("cache/scratch-1/*") if path.name != "lock"]


# What they find


def test_a_snippet_runs_as_a_program(cluster: Cluster) -> None:
    code = "import sys\nprint(__name__, sys.argv[1:], sys.stdin.read(), 'ä')\nsys.exit(3)"
    task = run(cluster, code, command=["one", "two words", ""], stdin="to be read", env={"LC_ALL": "C"})
    assert (task["state"], task["kind"], task["exit_code"], task["message"]) == ("failed", "python", 3, None)
    assert output(cluster, task) == "__main__ ['one', 'two words', ''] to be read ä\n"


def test_data_is_the_same_as_kind_and_code(cluster: Cluster) -> None:
    task = cluster.wait_for_end(cluster.client.submit({"data": "python:print('a:b')"})["id"])
    assert (task["state"], task["kind"], task["data"]) == ("completed", "python", "python:print('a:b')")
    assert output(cluster, task) == "a:b\n"


def test_the_interpreter_is_the_workers(cluster: Cluster) -> None:
    task = run(cluster, "import msgspec, sys\nprint(sys.executable)")
    assert output(cluster, task) == f"{sys.executable}\n"


def test_it_runs_in_a_directory_of_its_own_which_is_gone_afterwards(cluster: Cluster) -> None:
    code = (
        "import os, pathlib, tempfile\n"
        "here = os.getcwd()\n"
        "pathlib.Path('helper.py').write_text('x = 1')\n"
        "import helper\n"
        "os.makedirs('deep/er')\n"
        "os.chmod('deep', 0o500)\n"
        "assert here == os.environ['ROTA_SCRATCH'] == tempfile.gettempdir()\n"
        "print(here, sorted(os.listdir()), oct(os.stat('.').st_mode & 0o777))"
    )
    task = run(cluster, code)
    here, _, rest = output(cluster, task).partition(" ")
    assert rest == "['__pycache__', 'deep', 'helper.py', 'task.py'] 0o700\n"
    assert Path(here).parent == cluster.folder / "cache" / "scratch-1"
    assert scratch_of(cluster) == []


def test_a_working_directory_that_is_asked_for_wins(cluster: Cluster, tmp_path: Path) -> None:
    code = "import os, tempfile\nprint(os.getcwd(), tempfile.gettempdir() == os.environ['ROTA_SCRATCH'])"
    assert output(cluster, run(cluster, code, cwd=str(tmp_path))) == f"{tmp_path} True\n"
    lost = run(cluster, code, cwd="/no/such/folder")
    assert (lost["cause"], "/no/such/folder" in lost["message"]) == ("launch-error", True)
    assert scratch_of(cluster) == []


def test_output_is_not_held_back(cluster: Cluster) -> None:
    task = cluster.client.submit({"kind": "python", "code": "import time\nprint('here')\ntime.sleep(600)"})
    wait_until(lambda: output(cluster, task) == "here\n", what="the first line", ignoring=(RotaError,))
    cluster.client.cancel(task["id"])
    assert cluster.wait_for_end(task["id"])["state"] == "cancelled"


# How they fail


def test_code_that_does_not_compile_fails_with_what_the_compiler_says(cluster: Cluster) -> None:
    task = run(cluster, "x = 1\ny = (\nprint('never')\nz z\n")
    assert (task["state"], task["cause"], task["exit_code"]) == ("failed", "exit", 1)
    assert task["message"] == "SyntaxError: '(' was never closed (line 2)"


def test_an_exception_is_the_message_also_behind_a_flood(cluster: Cluster) -> None:
    task = run(cluster, "import sys\nsys.stderr.write('x' * 1_000_000 + '\\n')\n[][5]")
    assert (task["cause"], task["message"]) == ("exit", "IndexError: list index out of range (line 3)")


def test_a_snippet_that_is_killed_has_no_message(cluster: Cluster) -> None:
    task = run(cluster, "import os\nos.abort()")
    assert (task["cause"], task["signal"], task["message"]) == ("signal", 6, None)


def test_one_that_hangs_is_ended_and_its_children_with_it(cluster: Cluster, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "for _ in range(20):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        while True:\n"  # they write where it must be removed
        "            open(f'{os.getpid()}', 'w').close()\n"
        "            open(f'{sys.argv[1]}/{os.getpid()}', 'w').close()\n"
        "            time.sleep(0.01)\n"
        "time.sleep(600)\n"
    )
    task = run(cluster, code, timeout=2.5, command=[str(tmp_path)])
    assert (task["state"], task["cause"]) == ("failed", "timeout")
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert len(pids) == 20
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert scratch_of(cluster) == []


def test_a_mebibyte_of_code_is_the_most(cluster: Cluster) -> None:
    code = "x = 'é'\n" + "# filler\n" * 116_400 + "print(len(x))"
    assert 1_040_000 < len(code.encode()) < 1 << 20
    assert output(cluster, run(cluster, code)) == "1\n"
    with pytest.raises(RotaError, match=r"the task is .* bytes: at most 1,048,576 are taken"):
        run(cluster, code + "# more\n" * 2000)


def test_of_a_flood_the_ends_are_kept(cluster: Cluster) -> None:
    task = run(
        cluster, "import sys\nfor n in range(100):\n    sys.stdout.write(chr(97 + n % 26) * (1 << 20))\nprint('end')"
    )
    assert (task["state"], task["stdout_bytes"]) == ("completed", (100 << 20) + 4)
    said = output(cluster, task)
    assert len(said) < 20_000
    assert said.startswith("aaaa")
    assert said.endswith("end\n")


def test_code_may_be_any_text(cluster: Cluster) -> None:
    assert output(cluster, run(cluster, "print('\u2028 \U0001f600 \x7f \\udc80'.encode('utf-8', 'replace'))")) != ""
    wild = run(cluster, "\u202e\U0001f600 = \x01")
    assert (wild["state"], wild["cause"]) == ("failed", "exit")
    assert wild["message"].startswith("SyntaxError: invalid ")
    raw = run(cluster, "import os\nos.write(1, bytes(range(256)))\nos.write(2, b'\\xff\\xfe\\n')\n1 / 0")
    assert raw["message"] == "ZeroDivisionError: division by zero (line 4)"


@pytest.mark.parametrize(
    "spec, problem",
    [
        ({"kind": "python", "code": " \n"}, "code: has no code to run"),
        ({"data": "python:"}, "data: has no code to run"),
        ({"kind": "python", "code": "print(1)\0"}, "code: has a NUL character"),
        ({"code": "print(1)"}, "kind: say which: code needs kind python or go"),
        ({"kind": "python", "code": "1", "command": ["a\0"]}, "command: has a NUL character"),
        ({"kind": "python", "command": ["true"]}, "kind: 'python' does not go with command"),
        ({"kind": "python", "code": "1", "shell": "true"}, "give exactly one of"),
    ],
)
def test_what_can_not_be_meant_is_refused(cluster: Cluster, spec: Json, problem: str) -> None:
    with pytest.raises(RotaError, match=problem):
        cluster.client.submit(spec)


# What dead processes leave


@pytest.fixture
def lonely(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path) as running:
        running.start_coordinator()
        yield running


def start_worker(cluster: Cluster, name: str, *, prelude: str = "") -> psutil.Process:
    return psutil.Process(cluster.start_worker(name, f"--cache-dir={cluster.folder}/cache", prelude=prelude).pid)


def leave_something(cluster: Cluster) -> Path:
    """Start a snippet that has something in its directory; return that directory."""
    cluster.client.submit({"kind": "python", "code": "import os, time\nos.makedirs('odd/\\n')\ntime.sleep(600)"})
    wait_until(lambda: list(cluster.folder.glob("cache/scratch-1/t*/odd/*")), what="its directory")
    (path,) = cluster.folder.glob("cache/scratch-1/t*")
    return path


def test_what_a_killed_worker_leaves_is_removed_by_the_next(lonely: Cluster) -> None:
    worker = start_worker(lonely, "w1")
    path = leave_something(lonely)
    family = [worker, *worker.children(recursive=True)]
    for number in (signal.SIGSTOP, signal.SIGKILL):  # so that none of them can tidy up behind another
        for process in family:
            process.send_signal(number)
    psutil.wait_procs(family, timeout=10)
    assert path.exists()
    start_worker(lonely, "w2")
    wait_until(lambda: not path.exists(), what="the removal of what the dead worker left")


def test_what_a_killed_agent_leaves_is_removed_by_its_slot(lonely: Cluster) -> None:
    worker = start_worker(lonely, "w1")
    leave_something(lonely)
    worker.kill()
    wait_until(lambda: scratch_of(lonely) == [], what="the removal of the directory")


def test_what_a_killed_slot_leaves_is_removed_by_the_agent(lonely: Cluster) -> None:
    worker = start_worker(lonely, "w1", prelude=SWEEPS_SOON)
    path = leave_something(lonely)
    (slot,) = [process for process in worker.children(recursive=True) if process.name() == "rota-slot"]
    slot.kill()
    wait_until(lambda: not path.exists(), what="the removal of the directory", timeout_s=60.0)


# A disk that is full


def test_a_snippet_that_fills_its_directory_fails_alone(lonely: Cluster, tmp_path: Path) -> None:
    with small_disk(tmp_path / "cache", size_mib=8) as disk:
        start_worker(lonely, "w1")
        code = "with open('big', 'wb', buffering=0) as file:\n    while True:\n        file.write(bytes(1 << 20))"
        task = run(lonely, code)
        assert (task["state"], task["cause"]) == ("failed", "exit")
        assert task["message"] == "OSError: [Errno 28] No space left on device (line 3)"
        assert scratch_of(lonely) == []
        assert run(lonely, "print(1)")["state"] == "completed", "there is room again"
        fill(disk)
        task = run(lonely, "x = 1\n" * 10_000, losses=0)
        assert (task["state"], task["cause"]) == ("failed", "agent-error")
        assert task["message"].startswith("no scratch directory could be made on this worker: No space left on device")
        command = lonely.client.submit({"command": ["true"]})
        assert lonely.wait_for_end(command["id"])["state"] == "completed", "what needs no directory goes on"
        assert scratch_of(lonely) == []


def test_one_that_fills_its_directory_is_ended_at_the_limit_of_its_worker(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.start_coordinator()
        cluster.start_worker(
            "w1", "--resources=cpu=2000,memory=1G", "--scratch-limit=8M", f"--cache-dir={tmp_path}/cache"
        )
        code = "import subprocess\nopen('big', 'wb').write(bytes(12 << 20))\nsubprocess.run(['sleep', '600'])"
        over = cluster.client.submit({"kind": "python", "code": code, "outputs": ["none"]})
        fits = cluster.client.submit(
            {"shell": "head -c 6000000 /dev/zero > part; sleep 2.5; rm part; head -c 6000000 /dev/zero > out"}
            | {"outputs": ["out"]}
        )
        ended = cluster.wait_for_end(over["id"])
        assert (ended["state"], ended["cause"]) == ("failed", "error")
        assert (
            "its scratch directory held 13 MiB, and this worker's limit is 8 MiB (--scratch-limit)" in ended["message"]
        )
        ended = cluster.wait_for_end(fits["id"])
        assert (ended["state"], [output["name"] for output in ended["output_files"]]) == ("completed", ["out"])
        wait_until(lambda: not scratch_of(cluster), what="nothing to be left")

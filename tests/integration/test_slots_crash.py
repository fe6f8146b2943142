"""What no promise may depend on: the agent is killed, processes can't be, the keeper never starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from rota.core.model import Cause, LaneId, TaskId, TaskSeq
from rota.core.protocol import Ended, Mark, OutputChunk, Started
from rota.core.spec import TaskSpec, encode_spec
from rota.worker.slots import control, slot
from rota.worker.slots.base import Work
from rota.worker.slots.control import KeeperFailed
from rota.worker.slots.pool import SlotPool
from tests.support.processes import RunningProcess
from tests.support.tracing import traced
from tests.support.waiting import wait_until, wait_until_async

AGENT = """
import asyncio, sys
from rota.core.spec import TaskSpec, encode_spec
from rota.worker.slots.base import Work
from rota.worker.slots.pool import SlotPool

class Nobody:
    def on_events(self, started, ended, output): pass
    def on_marks(self, marks): pass
    def on_quarantined(self, lane, message): pass

async def main():
    pool = SlotPool(events=Nobody(), worker_id="w1")
    await pool.start()
    for lane in (1, 2):
        pool.run([Work(key=(lane, 1), lane=lane, id=f"t{lane}", spec=encode_spec(TaskSpec(shell=sys.argv[1])))])
    await asyncio.sleep(60)

asyncio.run(main())
"""

GIVES_UP_SOON = """
import sys
sys.path.append(sys.argv[1])
from rota.worker.slots import slot
slot.EMPTY_WITHIN_S = 0.5
from rota.worker.slots.keeper import main
main()
"""
"""The program of the keeper, whose slots wait half a second for the end of a tree that was killed, not five."""

STUBBORN = """
trap '' TERM INT HUP
(setsid sh -c 'trap "" TERM; : > {folder}/$$; while :; do sleep 1; done' &) &
: > {folder}/$$
while :; do sleep 1; done
"""


class Events:
    """Notes what a pool says."""

    def __init__(self) -> None:
        self.started: list[Started] = []
        self.ended: list[Ended] = []
        self.quarantined: list[tuple[LaneId, str]] = []

    def on_events(self, started: list[Started], ended: list[Ended], output: list[OutputChunk]) -> None:
        self.started += started
        self.ended += ended

    def on_marks(self, marks: list[Mark]) -> None:
        pass

    def on_quarantined(self, lane: LaneId, message: str) -> None:
        self.quarantined.append((lane, message))


def work(number: int, shell: str, *, lane: int = 1) -> Work:
    spec = encode_spec(TaskSpec(shell=shell))
    return Work(key=(TaskSeq(number), 1), lane=LaneId(lane), id=TaskId(f"t{number}"), spec=spec)


def pids_in(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir()]


def test_a_killed_agent_takes_everything_with_it(tmp_path: Path) -> None:
    """Slots, keeper and trees that double-forked, left the session and ignore every request."""
    folder = tmp_path / "pids"
    folder.mkdir()
    with RunningProcess(
        [sys.executable, "-c", AGENT, STUBBORN.format(folder=folder)], log_path=tmp_path / "log"
    ) as agent:
        wait_until(lambda: len(pids_in(folder)) == 4, what="four processes of two tasks")
        below = psutil.Process(agent.pid).children(recursive=True)
        names = [process.name() for process in below]
        assert names.count("rota-keeper") == 1
        assert names.count("rota-slot") == 2
        agent.kill()
        pids = [*(process.pid for process in below), *pids_in(folder)]
        wait_until(lambda: not [pid for pid in pids if _is_running(pid)], what="the end of all of them")
        assert agent.output() == ""


async def test_a_tree_that_cannot_be_emptied_costs_the_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is traced from outside stays a zombie for its parent, as one in state D stays alive."""
    monkeypatch.setattr(control, "_PROGRAM", GIVES_UP_SOON)
    events = Events()
    pool = SlotPool(events=events, worker_id="w1", grace_s=0.1)
    await pool.start()
    try:
        leaving = (
            f"sh -c ': > {tmp_path}/$$; exec sleep 60' & while [ ! -e {tmp_path}/go ]; do sleep 0.01; done; exit 7"
        )
        pool.run([work(1, leaving), work(2, "true")])
        await wait_until_async(lambda: [path for path in tmp_path.iterdir() if path.name != "go"], what="a pid")
        (victim,) = pids_in(tmp_path)
        with traced(victim):
            (tmp_path / "go").touch()
            await wait_until_async(lambda: len(events.ended) == 2, what="both ends")
        real, returned = events.ended
        assert (real.cause, real.exit_code) == (Cause.EXIT, 7)
        assert "could not be killed" in (real.message or "")
        assert returned.cause is Cause.RETURNED
        assert [lane for lane, _ in events.quarantined] == [1]
        pool.run([work(3, "true")])
        await wait_until_async(lambda: len(events.ended) == 3, what="an end in a new slot")
        assert events.ended[2].cause is None
    finally:
        await pool.close(kill=True)
    assert not psutil.pid_exists(victim)


async def test_a_keeper_that_cannot_start_is_an_error_and_not_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_PROGRAM", "raise SystemExit(3)")
    pool = SlotPool(events=Events(), worker_id="w1")
    with pytest.raises(KeeperFailed, match="ended with code 3"):
        await pool.start()
    await pool.close(kill=True)


def test_slots_load_only_small_modules() -> None:
    """Each module is memory of every slot: none of the large ones may creep in."""
    program = "import sys; sys.path.append(sys.argv[1]); import rota.worker.slots.keeper; print(*sys.modules)"
    root = Path(slot.__file__).parents[3]
    command = [sys.executable, "-I", "-S", "-c", program, str(root)]
    loaded = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert not loaded & {"msgspec", "asyncio", "psutil", "typing", "enum", "signal", "socket", "re", "contextlib"}


def _is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False

"""Two processes and one state directory, and what is there after a process was killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from rota.core.errors import StoreHeld
from rota.store import SqliteStore
from rota.store.conformance import leading
from tests.support.processes import RunningProcess

HOLDER = """
import asyncio, sys
from pathlib import Path
from rota.store import SqliteStore

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.campaign("rota on machine seven, pid 4711")
    print("leading", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""

COMMITTER = """
import asyncio, sys
from pathlib import Path
from rota.store import SqliteStore
from rota.store.conformance import leading, make_facts

async def main():
    async with leading(lambda: SqliteStore(Path(sys.argv[1]))) as leader:
        for turn in range(1_000_000):
            await leader.accept(*(make_facts(turn * 5 + n, spec=bytes(3_000)) for n in range(1, 6)))
            print("committed", turn * 5 + 5, flush=True)

asyncio.run(main())
"""


async def test_second_coordinator_is_told_who_holds_the_state(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    with RunningProcess([sys.executable, "-c", HOLDER, str(state_dir)], log_path=tmp_path / "log") as holder:
        await asyncio.to_thread(holder.wait_for_line, "leading")
        second = SqliteStore(state_dir)
        with pytest.raises(StoreHeld, match="is held by rota on machine seven, pid 4711"):
            await second.campaign("the second")
        holder.kill()
        assert (await second.campaign("the second")).epoch == 2
        await second.close()


async def test_two_stores_in_one_process_exclude_each_other_too(tmp_path: Path) -> None:
    async with leading(lambda: SqliteStore(tmp_path)):
        second = SqliteStore(tmp_path)
        with pytest.raises(StoreHeld, match="is held by the conformance suite"):
            await second.campaign("the second")
        await second.close()


@pytest.mark.parametrize("commits", [1, 60, 700])
async def test_every_acknowledged_commit_outlives_a_kill(tmp_path: Path, commits: int) -> None:
    state_dir = tmp_path / "state"
    with RunningProcess([sys.executable, "-c", COMMITTER, str(state_dir)], log_path=tmp_path / "log") as process:
        await asyncio.to_thread(process.wait_for_line, rf"^committed {commits * 5}$")
        process.kill()
        acknowledged = max(int(line.split()[1]) for line in process.output().splitlines() if line.startswith("comm"))
    async with leading(lambda: SqliteStore(state_dir)) as leader:
        seqs = [record.facts.seq for record in await leader.unfinished()]
        assert seqs[:acknowledged] == list(range(1, acknowledged + 1))
        assert len(seqs) in (acknowledged, acknowledged + 5), "a turn is there whole or not at all"
        assert leader.reign.number == len(seqs) // 5
        assert leader.reign.last_seq == len(seqs)

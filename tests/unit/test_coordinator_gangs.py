"""Who comes back together with a member of a gang, as far as the store still knows."""

from __future__ import annotations

import pytest

from rota.coordinator.gangs import find_mates
from rota.core.changes import Changes
from rota.core.errors import Conflict
from rota.core.model import GangTerms, TaskRecord, TaskState
from rota.core.spec import GANG_LABEL, TaskSpec, encode_spec
from rota.store.conformance.cases import leading, make_facts, make_progress
from rota.store.memory import MemoryStore

SIZE = 3
SPEC = encode_spec(TaskSpec(command=["true"], gang=GangTerms("g", SIZE)))


def member(seq: int, state: TaskState, *, attempt: int) -> TaskRecord:
    facts = make_facts(seq, labels=f'{{"{GANG_LABEL}":"g/1"}}', spec=SPEC)
    return TaskRecord(facts, make_progress(state, attempt=attempt))


async def mates_of_first(*members: TaskRecord) -> list[int]:
    async with leading(MemoryStore) as leader:
        progress = [(one.facts.seq, one.progress) for one in members]
        await leader.commit(Changes(accepted=[one.facts for one in members], progress=progress))
        return sorted(mate.facts.seq for mate in await find_mates(leader.store, members[0]))


async def test_all_others_come_back_with_it() -> None:
    ended = [member(seq, TaskState.FAILED, attempt=1) for seq in (1, 2, 3)]
    assert await mates_of_first(*ended) == [2, 3]


async def test_gang_of_which_one_has_completed_does_not_come_back() -> None:
    others = [member(1, TaskState.FAILED, attempt=1), member(3, TaskState.CANCELLED, attempt=1)]
    with pytest.raises(Conflict, match="t2 of its gang is completed"):
        await mates_of_first(*others, member(2, TaskState.COMPLETED, attempt=1))


async def test_gang_that_has_run_does_not_come_back_without_those_that_retention_has_removed() -> None:
    ended = [member(seq, TaskState.FAILED, attempt=1) for seq in (2, 3)]
    with pytest.raises(Conflict, match="of the 3 members of its gang 2 are still kept"):
        await mates_of_first(*ended)


async def test_gang_that_was_never_complete_comes_back_as_it_was() -> None:
    ended = [member(seq, TaskState.CANCELLED, attempt=0) for seq in (1, 2)]
    assert await mates_of_first(*ended) == [2]


async def test_member_that_no_gang_took_in_does_not_come_back() -> None:
    alone = TaskRecord(make_facts(7, spec=SPEC), make_progress(TaskState.FAILED))
    with pytest.raises(Conflict, match="never a member"):
        await mates_of_first(alone)

"""What is written is read again: all of it, and nothing else."""

from __future__ import annotations

import msgspec

from rota.core.changes import Changes
from rota.core.model import (
    Setting,
    TaskRecord,
    TaskSeq,
    TaskState,
    WorkerId,
)
from rota.store.base import TaskQuery
from rota.store.conformance.cases import (
    StoreFactory,
    full_changes,
    leading,
    make_attempt,
    make_client,
    make_facts,
    make_progress,
    make_worker,
)

__all__ = ["RecordSuite"]


class RecordSuite:
    """Round trips of records."""

    async def test_every_field_comes_back_after_a_restart(self, store_factory: StoreFactory) -> None:
        changes = full_changes()
        async with leading(store_factory) as leader:
            await leader.commit(changes)
        async with leading(store_factory) as leader:
            (record,) = await leader.unfinished()
            assert record == TaskRecord(changes.accepted[0], changes.progress[0][1])
            assert (await leader.store.history(TaskQuery())).tasks == [record]
            assert await leader.store.find_tasks(["nächtlich"]) == {"nächtlich": record}
            assert await leader.store.attempts(TaskSeq(7)) == changes.attempts
            assert await leader.store.load_workers() == changes.workers
            assert await leader.store.load_clients() == changes.clients
            assert await leader.store.load_settings() == changes.settings

    async def test_bytes_of_many_tasks_do_not_mix(self, store_factory: StoreFactory) -> None:
        facts = [make_facts(seq, spec=bytes([seq % 256]) * (seq * 37 % 5_000)) for seq in range(1, 400)]
        progress = [
            (one.seq, make_progress(TaskState.RUNNING, stdout=b"\0%d" % one.seq, stderr=b"\xff" * (one.seq % 7)))
            for one in facts
        ]
        async with leading(store_factory) as leader:
            await leader.commit(Changes(accepted=facts, progress=progress))
            assert await leader.unfinished() == [
                TaskRecord(one, moved) for one, (_, moved) in zip(facts, progress, strict=True)
            ]

    async def test_large_specs_come_back_whole(self, store_factory: StoreFactory) -> None:
        facts = [make_facts(seq, spec=bytes([seq]) * (1 << 20)) for seq in range(1, 21)]
        async with leading(store_factory) as leader:
            await leader.accept(*facts)
            page = await leader.store.history(TaskQuery())
            assert [record.facts for record in page.tasks] == facts[::-1]
            assert [record.facts for record in await leader.unfinished()] == facts

    async def test_later_changes_of_the_callers_records_do_not_get_in(self, store_factory: StoreFactory) -> None:
        progress = make_progress(TaskState.PENDING)
        async with leading(store_factory) as leader:
            await leader.commit(Changes(accepted=[make_facts(1)], progress=[(TaskSeq(1), progress)]))
            progress.state = TaskState.RUNNING
            (found,) = (await leader.store.history(TaskQuery())).tasks
            assert found.progress.state is TaskState.PENDING
            found.progress.attempt = 9
            assert (await leader.store.history(TaskQuery())).tasks[0].progress.attempt == 0

    async def test_progress_replaces_what_was_there(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.accept(make_facts(1), make_facts(2))
            await leader.move([1], make_progress(TaskState.ASSIGNED, worker="w1", attempt=1, message="one"))
            await leader.move([1], make_progress(TaskState.PENDING, attempt=1, ready_at=5.5))
            assert [record.progress for record in await leader.unfinished()] == [
                make_progress(TaskState.PENDING, attempt=1, ready_at=5.5),
                make_progress(TaskState.PENDING),
            ]
            assert await leader.seqs(TaskQuery(worker=WorkerId("w1"))) == []

    async def test_load_leaves_out_what_has_ended(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            for seq, state in enumerate((*TaskState, *TaskState), start=1):
                await leader.accept(make_facts(seq), state=state)
        async with leading(store_factory) as leader:
            assert [record.facts.seq for record in await leader.unfinished()] == [1, 2, 3, 7, 8, 9]

    async def test_many_tasks_load_once_each_in_order(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.accept(*(make_facts(seq) for seq in range(1, 12_001)))
            await leader.move(range(1, 12_001, 3), make_progress(TaskState.RUNNING))
            await leader.move(range(2, 12_001, 3), make_progress(TaskState.ASSIGNED))
            assert [record.facts.seq for record in await leader.unfinished()] == list(range(1, 12_001))

    async def test_attempts_come_oldest_first(self, store_factory: StoreFactory) -> None:
        attempts = [make_attempt(1, number) for number in (2, 10, 1)]
        async with leading(store_factory) as leader:
            await leader.accept(make_facts(1))
            for attempt in attempts:
                await leader.commit(Changes(attempts=[attempt]))
            assert [attempt.number for attempt in await leader.store.attempts(TaskSeq(1))] == [1, 2, 10]
            assert await leader.store.attempts(TaskSeq(2)) == []

    async def test_workers_are_replaced_and_removed(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.commit(Changes(workers=[make_worker("b"), make_worker("a"), make_worker("c")]))
            drained = msgspec.structs.replace(make_worker("a"), drained=True, instance="second")
            await leader.commit(Changes(workers=[drained], workers_gone=[WorkerId("c"), WorkerId("unknown")]))
            assert await leader.store.load_workers() == [drained, make_worker("b")]

    async def test_sessions_are_replaced_and_removed(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.commit(Changes(clients=[make_client(name) for name in ("b", "a", "c")]))
            further = make_client("a", through=99)
            await leader.commit(Changes(clients=[further], clients_gone=["c", "unknown"]))
        async with leading(store_factory) as leader:
            assert await leader.store.load_clients() == [further, make_client("b")]

    async def test_settings_are_replaced_and_removed(self, store_factory: StoreFactory) -> None:
        old = [Setting(kind, name, "1") for kind in ("queue", "limit") for name in ("b", "a", "c")]
        async with leading(store_factory) as leader:
            await leader.commit(Changes(settings=old))
            gone = [("queue", "a"), ("limit", "c"), ("limit", "unknown"), ("queue", "b")]
            await leader.commit(Changes(settings=[Setting("queue", "b", "2")], settings_gone=gone))
        async with leading(store_factory) as leader:
            assert await leader.store.load_settings() == [
                Setting("limit", "a", "1"),
                Setting("limit", "b", "1"),
                Setting("queue", "b", "2"),
                Setting("queue", "c", "1"),
            ]

    async def test_session_that_goes_and_comes_in_one_turn_is_there(self, store_factory: StoreFactory) -> None:
        async with leading(store_factory) as leader:
            await leader.commit(Changes(clients=[make_client("a")]))
            again = make_client("a", through=1_000)
            await leader.commit(Changes(clients=[again], clients_gone=["a"]))
            assert await leader.store.load_clients() == [again]

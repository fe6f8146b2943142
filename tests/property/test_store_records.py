"""Whatever a record holds comes back, and SQLite does what dictionaries do."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from rota.core.changes import Changes
from rota.core.model import ENDED_STATES, AttemptRecord, Cause, Progress, TaskFacts, TaskRecord, TaskSeq, TaskState
from rota.store import MemoryStore, Page, Retention, SqliteStore, Store, TaskQuery
from rota.store.conformance import Leader, make_facts, make_progress

WALL = 1_000_000.0

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
floats = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**62)
blobs = st.binary(max_size=300)
labels = st.dictionaries(names, texts, max_size=3).map(lambda given: msgspec.json.encode(given).decode())


@st.composite
def facts_of(draw: st.DrawFn, seq: int) -> TaskFacts:
    return TaskFacts(
        seq=TaskSeq(seq),
        chosen_id=draw(st.none() | names.map(lambda name: f"{name}-{seq}")),
        name=draw(st.none() | names),
        queue=draw(names),
        priority=draw(st.integers(0, 100)),
        labels=draw(
            st.none() | st.dictionaries(names, texts, max_size=3).map(lambda d: msgspec.json.encode(d).decode())
        ),
        created_at=draw(floats),
        start_at=draw(st.none() | floats),
        deadline_at=draw(st.none() | floats),
        spec=draw(blobs),
    )


progresses = st.builds(
    Progress,
    state=st.sampled_from([TaskState.PENDING, TaskState.ASSIGNED, TaskState.RUNNING]),
    attempt=counts,
    retries_used=counts,
    losses_used=counts,
    ready_at=st.none() | floats,
    wish=st.none() | st.sampled_from(Cause),
    worker=st.none() | names,
    instance=st.none() | texts,
    lane=st.none() | counts,
    place=st.none() | counts,
    epoch=st.none() | counts,
    queued_at=st.none() | floats,
    started_at=st.none() | floats,
    ended_at=st.none() | floats,
    cause=st.none() | st.sampled_from(Cause),
    exit_code=st.none() | st.integers(-(2**31), 2**31),
    signal=st.none() | st.integers(1, 64),
    cpu_seconds=st.none() | floats,
    peak_memory_kib=st.none() | counts,
    stdout_bytes=counts,
    stderr_bytes=counts,
    stdout=blobs,
    stderr=blobs,
    message=st.none() | texts,
)

attempts = st.builds(
    AttemptRecord,
    seq=st.just(TaskSeq(1)),
    number=st.integers(1, 2**31),
    worker=st.none() | names,
    queued_at=st.none() | floats,
    started_at=st.none() | floats,
    ended_at=floats,
    cause=st.none() | st.sampled_from(Cause),
    exit_code=st.none() | st.integers(-(2**31), 2**31),
    signal=st.none() | st.integers(1, 64),
    cpu_seconds=st.none() | floats,
    peak_memory_kib=st.none() | counts,
    stdout_bytes=counts,
    stderr_bytes=counts,
    stdout=blobs,
    stderr=blobs,
    message=st.none() | texts,
)


@st.composite
def turns(draw: st.DrawFn) -> Changes:
    facts = [draw(facts_of(seq)) for seq in range(1, draw(st.integers(1, 4)) + 1)]
    return Changes(
        accepted=facts,
        progress=[(one.seq, draw(progresses)) for one in facts],
        attempts=draw(st.lists(attempts, max_size=3, unique_by=lambda attempt: attempt.number)),
    )


@settings(max_examples=60)
@given(turns())
def test_records_of_any_content_come_back(changes: Changes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(check_round_trip(SqliteStore(Path(directory), durability="relaxed"), changes))
    asyncio.run(check_round_trip(MemoryStore(), changes))


async def check_round_trip(store: Store, changes: Changes) -> None:
    leader = Leader(store, await store.campaign("a property"))
    await leader.commit(changes)
    expected = [
        TaskRecord(facts, progress) for facts, (_, progress) in zip(changes.accepted, changes.progress, strict=True)
    ]
    assert await leader.unfinished() == expected
    assert (await store.history(TaskQuery())).tasks == expected[::-1]
    found = await store.find_tasks([facts.id for facts in changes.accepted])
    assert list(found.values()) == expected
    assert await store.attempts(TaskSeq(1)) == sorted(changes.attempts, key=lambda attempt: attempt.number)
    for record in expected:
        if record.facts.name is not None:
            by_name = await store.history(TaskQuery(name=f"{record.facts.name[:1]}*"))
            assert record in by_name.tasks
    await store.close()


# One turn or one step of retention, small enough that they meet the same tasks often.
steps = st.one_of(
    st.tuples(st.just("accept"), st.integers(1, 4), st.sampled_from(TaskState)),
    st.tuples(st.just("move"), st.integers(1, 12), st.sampled_from(TaskState)),
    st.tuples(st.just("revive"), st.integers(1, 12), st.sampled_from(TaskState)),
    st.tuples(st.just("prune"), st.integers(1, 5), st.sampled_from(TaskState)),
)
queries = st.builds(
    TaskQuery,
    states=st.none() | st.frozensets(st.sampled_from(TaskState)),
    queue=st.none() | st.sampled_from(["q0", "q1"]),
    name=st.none() | st.sampled_from(["n0", "n1", "n*", "n1*", "*"]),
    worker=st.none() | st.sampled_from(["w0", "w1"]),
    since=st.none() | st.integers(0, 12).map(float),
    until=st.none() | st.integers(0, 12).map(float),
    before=st.none() | st.integers(1, 12),
    limit=st.integers(1, 5),
)


@settings(max_examples=60)
@given(st.lists(steps, max_size=12), st.lists(queries, min_size=1, max_size=4))
def test_sqlite_and_dictionaries_answer_alike(
    history: list[tuple[str, int, TaskState]], asked: list[TaskQuery]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        assert asyncio.run(play(SqliteStore(Path(directory), durability="relaxed"), history, asked)) == asyncio.run(
            play(MemoryStore(), history, asked)
        )


async def play(store: Store, history: list[tuple[str, int, TaskState]], asked: list[TaskQuery]) -> list[object]:
    """Play the steps as a coordinator would, and return all that can be seen afterwards."""
    leader = Leader(store, await store.campaign("a property"))
    seen: list[object] = []
    facts: list[TaskFacts] = []
    for verb, number, state in history:
        progress = make_progress(state, worker=f"w{number % 2}", attempt=len(seen))
        if verb == "accept":
            new = [varied_facts(len(facts) + n) for n in range(1, number + 1)]
            facts += new
            await leader.commit(Changes(accepted=new, progress=[(one.seq, progress) for one in new]))
        elif verb == "prune":
            seen.append(await store.prune(Retention(max_tasks=number), wall=WALL, at_most=number))
        elif number <= len(facts):
            one = facts[number - 1]
            kept = await store.find_tasks([one.id])
            # Only a retry leads back from an end, and only a retry brings back what retention has removed.
            if verb == "revive" or (kept and kept[one.id].progress.state not in ENDED_STATES):
                revived = [one] if verb == "revive" else []
                await leader.commit(Changes(revived=revived, progress=[(one.seq, progress)]))
    pages: list[Page] = [await store.history(query) for query in asked]
    seen += [pages, await leader.unfinished(), await store.count_by_state()]
    await store.close()
    return seen


def varied_facts(seq: int) -> TaskFacts:
    return make_facts(seq, queue=f"q{seq % 2}", name=f"n{seq % 3}" if seq % 4 else None, created_at=float(seq))

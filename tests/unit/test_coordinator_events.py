"""The ring of events: ids in order, listeners that come back, and those who are too slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from rota.coordinator import events as events_module
from rota.coordinator.events import ENTRY_BYTES, EventHub
from rota.coordinator.service import Event
from rota.core.changes import Changes
from rota.core.model import Cause, Progress, TaskFacts, TaskSeq, TaskState

Listener = AsyncIterator[Event | None]


def changes_of(*changed: tuple[int, TaskState], new: tuple[int, ...] = ()) -> Changes:
    facts = [
        TaskFacts(
            TaskSeq(seq), None, None, "default", 50, None, created_at=0.0, start_at=None, deadline_at=None, spec=b""
        )
        for seq in new
    ]
    return Changes(
        accepted=facts, progress=[(TaskSeq(seq), Progress(state=state, attempt=1)) for seq, state in changed]
    )


def publish(hub: EventHub, number: int, *seqs: int) -> None:
    hub.publish(number, changes_of(*((seq, TaskState.RUNNING) for seq in seqs)), at=float(number))


async def take(listener: Listener, count: int) -> list[Event]:
    async with asyncio.timeout(5.0):
        taken = [await anext(listener) for _ in range(count)]
    assert None not in taken
    return [event for event in taken if event is not None]


def shown(events: list[Event]) -> list[tuple[str, str, str | None]]:
    return [(event.id, event.type, event.task or event.node) for event in events]


async def begin(hub: EventHub, last_id: str | None = None) -> tuple[Listener, asyncio.Task[Event | None]]:
    """Listen, and return once the listener stands in line, with the task that takes its first event."""
    listener = hub.listen(last_id)
    first = asyncio.ensure_future(anext(listener))
    await asyncio.sleep(0)
    return listener, first


@pytest.fixture
def small_ring(monkeypatch: pytest.MonkeyPatch) -> EventHub:
    """A ring that holds two commits of one task each."""
    monkeypatch.setattr(events_module, "RING_BYTES_MAX", 4 * ENTRY_BYTES)
    return EventHub(0)


async def test_a_listener_without_an_id_hears_what_comes_from_now_on() -> None:
    hub = EventHub(0)
    publish(hub, 1, 1)
    listener, first = await begin(hub)
    publish(hub, 2, 2)
    assert (await first) == Event("2.0", "task.running", 2.0, task="t2", attempt=1)
    assert hub.listeners == 1
    await listener.aclose()  # type: ignore[attr-defined] # it is a generator
    assert hub.listeners == 0


async def test_ids_count_on_within_a_commit_and_its_notices() -> None:
    hub = EventHub(0)
    listener, first = await begin(hub)
    changes = changes_of((1, TaskState.ASSIGNED), (2, TaskState.PENDING), new=(1, 2))
    changes.chosen_ids[TaskSeq(2)] = "mine"
    hub.publish(7, changes, at=1.0)
    hub.publish_node("w1", "online", at=2.0)
    publish(hub, 8, 1)
    heard = [event for event in [await first] if event is not None] + await take(listener, 4)
    assert shown(heard) == [
        ("7.0", "task.pending", "t1"),
        ("7.1", "task.assigned", "t1"),
        ("7.2", "task.pending", "mine"),
        ("7.3", "node.online", "w1"),
        ("8.0", "task.running", "t1"),
    ]
    assert [event.attempt for event in heard] == [None, 1, None, None, 1]


async def test_an_end_tells_its_cause() -> None:
    hub = EventHub(0)
    _, first = await begin(hub)
    failed = Progress(state=TaskState.FAILED, attempt=2, cause=Cause.OOM)
    hub.publish(1, Changes(progress=[(TaskSeq(1), failed)]), at=1.0)
    assert (await first) == Event("1.0", "task.failed", 1.0, task="t1", attempt=2, cause="oom")


async def test_a_listener_that_comes_back_goes_on_after_its_id() -> None:
    hub = EventHub(0)
    publish(hub, 1, 1, 2, 3)
    publish(hub, 2, 4)
    for last_id, rest in (("1.0", ["1.1", "1.2", "2.0"]), ("1.2", ["2.0"])):
        assert [event.id for event in await take(hub.listen(last_id), len(rest))] == rest
    _, first = await begin(hub, "2.0")
    assert not first.done(), "it has heard all"
    publish(hub, 3, 5)
    event = await first
    assert event is not None
    assert event.id == "3.0"


@pytest.mark.parametrize("last_id", ["0.5", "garbage", "99.0", "2.7"])
async def test_an_id_that_is_not_in_the_ring_means_resync(last_id: str) -> None:
    hub = EventHub(0)
    publish(hub, 1, 1)
    publish(hub, 2, 2)
    listener = hub.listen(last_id)
    (resync,) = await take(listener, 1)
    assert (resync.type, resync.id) == ("resync", "2.0")
    publish(hub, 3, 3)
    assert shown(await take(listener, 1)) == [("3.0", "task.running", "t3")]


async def test_an_id_from_before_a_restart_means_resync() -> None:
    (resync,) = await take(EventHub(5).listen("5.0"), 1)
    assert resync.type == "resync"


async def test_an_id_that_has_left_the_ring_means_resync(small_ring: EventHub) -> None:
    for number in range(1, 5):
        publish(small_ring, number, number)
    assert shown(await take(small_ring.listen("3.0"), 1)) == [("4.0", "task.running", "t4")]
    assert (await take(small_ring.listen("1.0"), 1))[0].type == "resync"


async def test_a_listener_that_falls_out_of_the_ring_is_told_to_resync(small_ring: EventHub) -> None:
    listener, first = await begin(small_ring)
    publish(small_ring, 1, 1)
    await first
    for number in range(2, 10):
        publish(small_ring, number, number)
    assert (await take(listener, 1))[0].type == "resync"
    publish(small_ring, 10, 10)
    assert shown(await take(listener, 1)) == [("10.0", "task.running", "t10")]


async def test_a_slow_listener_does_not_hold_up_others() -> None:
    hub = EventHub(0)
    _, slow = await begin(hub)
    quick, first = await begin(hub)
    publish(hub, 1, 1)
    publish(hub, 2, 2)
    event = await first
    assert event is not None
    assert [event.id] + [event.id for event in await take(quick, 1)] == ["1.0", "2.0"]
    assert (await slow) == event


async def test_silence_is_broken_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "KEEP_ALIVE_S", 0.001)
    hub = EventHub(0)
    listener = hub.listen(None)
    async with asyncio.timeout(5.0):
        assert [await anext(listener), await anext(listener)] == [None, None]

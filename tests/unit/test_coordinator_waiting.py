"""Those who wait in a coordinator: commands for a turn, clients for answers, watchers for changes; and the rates."""

from __future__ import annotations

import asyncio

import pytest

from rota.coordinator.inbox import Inbox
from rota.coordinator.rates import WINDOW_S, Rates
from rota.coordinator.watches import Watches
from rota.core.changes import Changes
from rota.core.commands import DraftGroup, ReplyTo, SetDrained, SubmitNumbered, SubmitTasks, Tick
from rota.core.effects import WorkerKnown
from rota.core.errors import StoreUnavailable
from rota.core.model import Progress, TaskSeq, TaskState, WorkerId
from rota.core.protocol import OutputChunk
from tests.support.core import drafts_of


def drain(to: ReplyTo) -> SetDrained:
    return SetDrained(WorkerId("w1"), True, to)


async def begin_to_ask(inbox: Inbox) -> asyncio.Task[WorkerKnown]:
    asking = asyncio.create_task(inbox.ask(drain, WorkerKnown))
    await asyncio.sleep(0)
    return asking


async def test_commands_are_taken_in_their_order_and_once() -> None:
    inbox = Inbox()
    first, second = Tick(), drain(ReplyTo(1))
    inbox.put(first)
    inbox.put(second)
    assert inbox
    assert inbox.take() == [first, second]
    assert not inbox
    assert inbox.take() == []


async def test_an_arrival_ends_the_wait() -> None:
    inbox = Inbox()
    waiting = asyncio.create_task(inbox.arrival(None))
    await asyncio.sleep(0)
    assert not waiting.done()
    inbox.put(Tick())
    await asyncio.wait_for(waiting, 5.0)
    await asyncio.wait_for(inbox.arrival(None), 5.0)


async def test_a_wait_ends_with_its_time() -> None:
    await asyncio.wait_for(Inbox().arrival(0.001), 5.0)


async def test_an_answer_reaches_who_asked() -> None:
    inbox = Inbox()
    one, other = await begin_to_ask(inbox), await begin_to_ask(inbox)
    first, second = inbox.take()
    assert isinstance(first, SetDrained)
    assert isinstance(second, SetDrained)
    inbox.answer(second.reply_to, WorkerKnown(False))
    inbox.refuse(first.reply_to, StoreUnavailable("no room left"))
    assert await other == WorkerKnown(False)
    with pytest.raises(StoreUnavailable):
        await one
    inbox.answer(first.reply_to, WorkerKnown(True))  # nobody waits any more: nothing happens


async def test_an_expected_answer_is_given_within_the_call() -> None:
    inbox, heard = Inbox(), list[object]()
    answered, refused, dropped = (inbox.expect(heard.append, heard.append) for _ in range(3))
    inbox.answer(answered, WorkerKnown(True))
    assert heard == [WorkerKnown(True)], "what is published next must come after it"
    error = StoreUnavailable("no room left")
    inbox.refuse(refused, error)
    inbox.refuse_all(error)
    inbox.answer(dropped, WorkerKnown(True))
    assert heard == [WorkerKnown(True), error, error]


async def test_all_who_wait_are_refused_whether_their_turn_has_come_or_not() -> None:
    inbox = Inbox()
    taken = await begin_to_ask(inbox)
    inbox.take()
    waiting = await begin_to_ask(inbox)
    inbox.refuse_all(StoreUnavailable("no room left"))
    assert not inbox
    for asking in (taken, waiting):
        with pytest.raises(StoreUnavailable):
            await asking


async def test_tasks_in_the_inbox_are_counted_until_they_are_taken_or_given_up() -> None:
    inbox = Inbox()

    async def submit(count: int) -> WorkerKnown:
        return await inbox.ask(lambda to: SubmitTasks(drafts_of(count, 0.0), to), WorkerKnown)

    kept, given_up = asyncio.create_task(submit(2)), asyncio.create_task(submit(3))
    await asyncio.sleep(0)
    assert inbox.tasks == 5
    given_up.cancel()
    await asyncio.wait((given_up,))
    assert inbox.tasks == 2
    (command,) = inbox.take()
    assert inbox.tasks == 0
    kept.cancel()  # its turn has come: what it asked for is carried out
    await asyncio.wait((kept,))
    assert isinstance(command, SubmitTasks)
    inbox.answer(command.reply_to, WorkerKnown(True))
    assert inbox.tasks == 0


def test_numbered_tasks_count_unless_they_are_refused() -> None:
    inbox = Inbox()
    (draft,) = drafts_of(1, 0.0)
    groups = [DraftGroup(draft, [b"x", b"y"], 2), DraftGroup(None, [], 7), DraftGroup(draft, [], 1)]
    inbox.put(SubmitNumbered("a-session", 1, 0, groups, inbox.expect(print, print)))
    assert inbox.tasks == 3


def test_watchers_hear_of_their_task_and_of_its_output() -> None:
    watches = Watches()
    with watches.watch(TaskSeq(1)) as one, watches.watch(TaskSeq(1)) as twin, watches.watch(TaskSeq(2)) as other:
        watches.publish(Changes(progress=[(TaskSeq(1), Progress(state=TaskState.RUNNING))]))
        assert (one.is_set(), twin.is_set(), other.is_set()) == (True, True, False)
        watches.publish(Changes(output=[OutputChunk(TaskSeq(2), 1, "stdout", 0, b"x")]))
        assert other.is_set()
    watches.publish(Changes(progress=[(TaskSeq(1), Progress(state=TaskState.COMPLETED))]))


def test_a_watcher_that_leaves_takes_no_other_with_it() -> None:
    watches = Watches()
    with watches.watch(TaskSeq(1)) as stays:
        with watches.watch(TaskSeq(1)):
            pass
        watches.wake_all()
        assert stays.is_set()


def test_rates_are_over_the_last_seconds_only() -> None:
    rates = Rates()
    assert rates.per_second() == {}
    rates.sample(0.0, ended=0)
    assert rates.per_second() == {"ended": 0.0}
    rates.sample(1.0, ended=1_000)
    assert rates.per_second() == {"ended": 1_000.0}
    for second in range(2, 13):
        rates.sample(float(second), ended=1_000)
    assert rates.per_second() == {"ended": 0.0}, f"what was {WINDOW_S:g} s ago is forgotten"


def test_counters_that_begin_anew_give_no_negative_rate() -> None:
    rates = Rates()
    rates.sample(0.0, accepted=500, ended=100)
    rates.sample(1.0, accepted=500, ended=0)
    assert rates.per_second() == {"accepted": 0.0, "ended": 0.0}
    rates.sample(3.0, accepted=510, ended=4)
    assert rates.per_second() == {"accepted": 5.0, "ended": 2.0}

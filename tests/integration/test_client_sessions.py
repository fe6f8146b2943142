"""Sessions of clients over a real channel and store: each task once, each end told, whatever breaks in between."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from rota.core.errors import StoreUnavailable
from rota.core.model import Cause, TaskSeq, TaskState
from rota.core.protocol import Closing, Refused
from tests.support.raw_client import TRUE, RawClient
from tests.support.stage import Stage, stage
from tests.support.waiting import wait_until_async

ARGS: Final = [b"args %d" % number for number in range(500)]


async def count_tasks(on: Stage) -> int:
    _, stats = await on.coordinator.ask("GET", "/api/v1/stats")
    return sum(stats["tasks"].values())


async def test_a_batch_is_accepted_before_it_is_told_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        worker = await on.worker(value=b"the result")
        client = await on.client()
        # The client itself sees to it that nothing is told before it is known.
        outcomes = await client.run(on.function(), args=ARGS)
        assert {(outcome.state, outcome.value, outcome.worker) for outcome in outcomes} == {
            (TaskState.COMPLETED, b"the result", "w1")
        }
        assert set(client.told.values()) == {1}
        assert worker.ran == dict.fromkeys(client.seqs.values(), 1)
        assert client.known_through == len(ARGS)


async def test_a_cut_between_the_commit_and_its_answer_makes_no_second_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        worker = await on.worker()
        client = await on.client()
        on.coordinator.store.commits_open.clear()
        numbers = client.submit(on.function(), args=ARGS)
        await on.coordinator.wait_until_waiting()
        await client.leave_for_good()
        await client.wait_until_closed()
        on.coordinator.store.commits_open.set()
        await client.come_back()
        assert [(known.number, known.count) for known in client.welcomes[-1].ranges] == [(1, len(ARGS))]
        assert len(await client.wait_for_outcomes(numbers)) == len(ARGS)
        assert await count_tasks(on) == len(ARGS)
        assert set(worker.ran.values()) == {1}
        assert set(client.told.values()) == {1}


async def test_what_was_lost_on_its_way_is_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        await on.worker()
        client = await on.client()
        first = client.submit(TRUE, TRUE)
        await client.wait_for_outcomes(first)
        await client.leave_for_good()
        lost = client.submit(TRUE, TRUE, TRUE)  # into a channel that is closed
        await client.come_back()
        await client.wait_for_outcomes([*first, *lost])
        assert await count_tasks(on) == 5


async def test_the_same_submission_again_on_one_channel_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        await on.worker()
        client = await on.client()
        numbers = client.submit(TRUE, TRUE)
        client.next_number = 1
        assert client.submit(TRUE, TRUE) == numbers
        await client.wait_for_outcomes(numbers)
        await client.run(TRUE)
        assert await count_tasks(on) == 3


async def test_a_new_channel_takes_the_place_of_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        worker = await on.worker(is_eager=False)
        client = await on.client()
        on.coordinator.store.commits_open.clear()
        numbers = client.submit(TRUE)
        await on.coordinator.wait_until_waiting()
        twin = RawClient(on.url, session=client.session)
        await twin.connect()
        assert "another channel" in await client.wait_until_closed()
        on.coordinator.store.commits_open.set()
        await twin.wait_for_tasks(numbers)
        await worker.wait_for_attempts(1)
        worker.end()
        await twin.wait_for_outcomes(numbers)
        assert not client.outcomes


async def test_what_ended_while_nobody_listened_is_told_at_the_next_hello(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota.coordinator.client_session.LOOK_UP_TASKS", 7)
    async with stage(tmp_path, monkeypatch) as on:
        worker = await on.worker(is_eager=False, value=b"while you were away")
        client = await on.client()
        numbers = client.submit(on.function(), args=ARGS[:64])
        seqs = await client.wait_for_tasks(numbers)
        await worker.wait_for_attempts(64)
        await client.leave_for_good()
        await client.wait_until_closed()
        worker.end(*seqs[:40])
        await wait_until_async(lambda: on.coordinator.house._loop.counts.completed == 40, what="the ends")
        never = TaskSeq(10**6)
        client.awaits[never] = None
        await client.come_back()
        await client.wait_until(lambda: len(client.outcomes) == 40, what="what was missed")
        await client.wait_until(lambda: client.unknown == {never}, what="what nobody knows")
        worker.end(*seqs[40:])
        outcomes = await client.wait_for_outcomes(numbers)
        assert {outcome.value for outcome in outcomes} == {b"while you were away"}
        assert set(client.told.values()) == {1}


async def test_a_client_that_has_forgotten_everything_is_told_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        await on.worker()
        client = await on.client()
        numbers = client.submit(TRUE, TRUE, b"nonsense", TRUE)
        await client.wait_for_outcomes([numbers[0], numbers[1], numbers[3]])
        await client.leave_for_good()
        heir = await on.client(session=client.session)
        assert heir.welcomes[0].accepted_through == 4
        assert [(known.number, known.count) for known in heir.welcomes[0].ranges] == [(1, 2), (4, 1)]
        await heir.wait_for_outcomes([1, 2, 4])
        assert heir.outcomes == client.outcomes
        heir.next_number = 5
        await heir.run(TRUE)


async def test_an_end_that_is_being_committed_while_it_is_asked_for_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        worker = await on.worker(is_eager=False)
        client, other = await on.client(), await on.client()
        (seq,) = await client.wait_for_tasks(client.submit(TRUE))
        await worker.wait_for_attempts(1)
        on.coordinator.store.commits_open.clear()
        worker.end()
        await on.coordinator.wait_until_waiting()
        other.follow(seq)  # gone from the scheduler, not yet from the record
        follow = on.coordinator.house._clients.followers
        await wait_until_async(lambda: follow._others, what="two followers")
        on.coordinator.store.commits_open.set()
        for each in (client, other):
            await each.wait_until(lambda each=each: seq in each.outcomes, what="the outcome")  # type: ignore[misc]  # bound
            assert each.told == {seq: 1}


async def test_all_who_follow_a_task_are_told_and_those_who_have_left_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        worker = await on.worker(is_eager=False)
        owner, second, third = [await on.client() for _ in range(3)]
        (seq,) = await owner.wait_for_tasks(owner.submit(TRUE))
        await worker.wait_for_attempts(1)
        second.follow(seq)
        second.follow(seq)
        third.follow(seq)
        worker.start(seq)
        await third.wait_until(lambda: third.running == {seq}, what="its start")
        await owner.leave_for_good()
        await owner.wait_until_closed()
        worker.end()
        for client in (second, third):
            await client.wait_until(lambda client=client: client.told == {seq: 1}, what="its end")  # type: ignore[misc]  # bound
        assert not owner.outcomes
        latecomer = await on.client()
        latecomer.follow(seq)
        await latecomer.wait_until(lambda: latecomer.told == {seq: 1}, what="its end")
        assert not on.coordinator.house._clients.followers


async def test_nothing_is_kept_of_who_leaves_while_ends_are_looked_up_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        client = await on.client()
        on.coordinator.store.finds_open.clear()
        client.follow(*range(10**6, 10**6 + 250))  # unknown: they will never end
        await on.coordinator.wait_until_waiting()
        await client.leave_for_good()
        desk = on.coordinator.house._clients
        await wait_until_async(lambda: not len(desk), what="the end of the session")
        await wait_until_async(lambda: not len(desk.followers), what="nobody to follow them")
        on.coordinator.store.finds_open.set()


async def test_cancels_go_on_after_the_client_has_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rota.coordinator.clients.CANCEL_TASKS", 3)
    async with stage(tmp_path, monkeypatch) as on:
        client = await on.client()
        seqs = await client.wait_for_tasks(client.submit(*[TRUE] * 10))
        client.cancel(*seqs, TaskSeq(10**9))
        await client.leave_for_good()
        counts = on.coordinator.house._loop.counts
        await wait_until_async(lambda: counts.cancelled == 10, what="all cancels")
        await client.come_back()
        await client.wait_until(lambda: len(client.outcomes) == 10, what="the outcomes")
        assert {(end.state, end.cause) for end in client.outcomes.values()} == {(TaskState.CANCELLED, Cause.CANCELLED)}


async def test_an_outage_of_the_store_sends_clients_away_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota.coordinator.loop.RETRY_S_MIN", 0.01)
    monkeypatch.setattr("rota.coordinator.loop.RETRY_S_MAX", 0.01)
    async with stage(tmp_path, monkeypatch) as on:
        client = await on.client()
        first = client.submit(TRUE, TRUE)
        await client.wait_for_tasks(first)
        on.coordinator.store.commit_failure = StoreUnavailable("no room left: free some space")
        second = client.submit(TRUE, TRUE)
        assert "no room left" in await client.wait_until_closed()
        assert [message.message for message in client.heard if isinstance(message, Closing)]
        on.coordinator.store.commit_failure = None
        await wait_until_async(on.coordinator.is_ready, what="the coordinator to serve again")
        await client.come_back()
        await on.worker()
        await client.wait_for_outcomes([*first, *second])
        assert set(client.told.values()) == {1}
        assert await count_tasks(on) == 4


async def test_a_stop_says_goodbye(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        client = await on.client()
        await on.coordinator.house.stop()
        on.coordinator.house.close_sessions("the coordinator is leaving")
        await client.wait_until_closed()
        assert client.heard[-1] == Closing("the coordinator is leaving")


async def test_a_client_of_another_version_is_refused_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        client = RawClient(on.url)
        await client.connect(version=99)
        await client.wait_until_closed()
        (refusal,) = client.heard
        assert isinstance(refusal, Refused)
        assert (refusal.code, refusal.retryable) == ("protocol_version", False)


async def test_the_welcome_names_one_worker_of_each_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        for name, packages in (("w2", {"numpy": "2.0"}), ("w1", {"numpy": "2.0"}), ("w3", {"numpy": "1.9"})):
            await on.worker(name, packages=packages)
        await on.worker("w0", python="")
        client = await on.client()
        told = [(facts.id, facts.python, facts.packages) for facts in client.welcomes[0].nodes]
        assert told == [("w1", "3.11", {"numpy": "2.0"}), ("w3", "3.11", {"numpy": "1.9"})]
        assert client.welcomes[0].blob_home == on.coordinator.house.blobs.home


async def test_a_session_that_was_forgotten_goes_on_with_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        await on.worker()
        client = RawClient(on.url)
        client.seqs = {number: TaskSeq(number) for number in range(1, 8)}  # of a record that is no more
        client.next_number = 8
        assert (await client.enter()).accepted_through == 0
        await client.run(TRUE, TRUE)

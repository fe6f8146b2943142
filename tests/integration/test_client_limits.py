"""Clients that ask for what makes no sense, for too much, or read too slowly: told so, and nobody else is disturbed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import pytest

from rota.core.checks import ARGS_BYTES_MAX
from rota.core.client_protocol import ClientHello, Follow, FromClient, Submission, Submit
from rota.core.model import TaskState
from rota.core.protocol import PROTOCOL_VERSION, Heartbeat, Usage
from tests.support.raw_client import TRUE, RawClient, template_of
from tests.support.stage import stage
from tests.support.waiting import wait_until_async

DIGEST: Final = "ab" * 32


def pack(**fields: object) -> bytes:
    return msgspec.msgpack.encode(fields)


@pytest.mark.parametrize(
    "submission,code,says",
    [
        (Submission(b"", []), "bad_spec", "Input data was truncated"),
        (Submission(b"\xff\xff", []), "bad_spec", "task: "),
        (Submission(pack(comand=["true"]), []), "bad_spec", "comand: there is no such field; did you mean `command`?"),
        (Submission(pack(command=["true"], id="mine"), []), "bad_spec", "id: can't be chosen on a channel"),
        (Submission(pack(command=["true"], retries=-1), []), "bad_spec", "retries: is -1"),
        (Submission(pack(command=["true"], limits={"x": 1}), []), "bad_spec", "limits: there is no limit 'x'"),
        (Submission(pack(), []), "bad_spec", "command, shell, code"),
        (Submission(TRUE, [b"x"]), "bad_spec", "args: goes with function only"),
        (Submission(pack(function=DIGEST, args=b"x"), [b"y"]), "bad_spec", "args: is in the template already"),
        (Submission(pack(function=DIGEST), [b"", b"x" * (ARGS_BYTES_MAX + 1)]), "bad_spec", "put more into a blob"),
        (Submission(pack(function="ABC"), []), "bad_spec", "function: must be the SHA-256"),
        (Submission(pack(function=DIGEST), [b"x", b"y"]), "blob_missing", f"there is no blob {DIGEST}: put it to"),
        (Submission(pack(command=["true"], env={"BIG": "x" * (1 << 20)}), []), "too_large", "at most 1,048,576"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_a_sentence_and_the_rest_is_taken(
    submission: Submission, code: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        await on.worker()
        client = await on.client()
        count = max(1, len(submission.args))
        client.send(Submit(1, 0, [Submission(TRUE, []), submission, Submission(TRUE, [])]))
        await client.wait_for_outcomes([1, 2 + count])
        await client.wait_until(lambda: len(client.refused) == count, what="the refusal")
        assert sorted(client.refused) == list(range(2, 2 + count))
        assert {found for found, _ in client.refused.values()} == {code}
        assert says in client.refused[2][1]
        client.next_number = 3 + count
        await client.run(TRUE)


async def test_blobs_besides_the_function_must_be_there_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        await on.worker()
        client = await on.client()
        here, lacking = on.blob(b"an argument"), "cd" * 32
        good, bad = on.function(blobs=[here]), on.function(blobs=[here, lacking])
        client.submit(bad, args=[b"x"])
        numbers = client.submit(good, args=[b"x", b"y"])
        await client.wait_for_outcomes(numbers)
        assert lacking in client.refused[1][1]


async def test_neighbours_that_are_refused_for_the_same_reason_are_refused_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        client = await on.client()
        client.submit(*[b"nonsense"] * 1000, *[pack(function=DIGEST)] * 500)
        await client.wait_until(lambda: len(client.refused) == 1500, what="the refusals")
        assert len(client.heard) == 3, "a welcome and two refusals"
        assert client.known_through == 1500


@pytest.mark.parametrize(
    "message,says",
    [
        (Submit(1, 0, []), "at least one task"),
        (Submit(0, 0, [Submission(TRUE, [])]), "numbers begin at 1"),
        (Submit(3, 3, [Submission(TRUE, [])]), "numbers begin at 1 and grow"),
        (Submit(2, 0, [Submission(TRUE, [])]), "number 1 is missing"),
        (Submit(1, 0, [Submission(TRUE, [b""] * 20_001)]), "20,001 tasks in one message"),
        (ClientHello(PROTOCOL_VERSION, "s" * 16, 0, []), "says hello once"),
        (Heartbeat(0.0, Usage()), "nothing that a worker says"),
    ],
)
async def test_what_no_client_would_say_closes_its_channel_alone(
    message: FromClient, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        await on.worker()
        good, bad = await on.client(), await on.client()
        bad.send(message)
        assert says in await bad.wait_until_closed()
        await good.run(TRUE)


async def test_numbers_end_before_they_are_too_large_for_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        client = RawClient(on.url)
        monkeypatch.setattr(RawClient, "known_through", property(lambda self: 2**63 - 2))
        await client.enter()
        client.send(Submit(2**63 - 1, 2**63 - 2, [Submission(TRUE, [])]))
        assert "begin another session" in await client.wait_until_closed()


async def test_a_client_that_never_says_what_it_knows_is_sent_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota.coordinator.client_session.UNCONFIRMED_MAX", 100)
    async with stage(tmp_path, monkeypatch) as on:
        client = await on.client()
        for number in range(1, 102):
            client.send(Submit(number, 0, [Submission(TRUE, [])]))
        assert "say which ids are known" in await client.wait_until_closed()


@pytest.mark.parametrize(
    "first",
    [Submit(1, 0, [Submission(TRUE, [])]), Follow([]), Heartbeat(0.0, Usage())],
    ids=["submit", "follow", "beat"],
)
async def test_who_does_not_say_hello_is_nobody(
    first: FromClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        client = RawClient(on.url)
        monkeypatch.setattr(client, "send", lambda _: type(client).send(client, first))
        await client.connect()
        assert "a hello comes first" in await client.wait_until_closed()


async def test_what_comes_with_the_hello_is_looked_at_after_the_welcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        await on.worker()
        client = RawClient(on.url)
        await client.connect()
        numbers = client.submit(TRUE, TRUE)
        await client.wait_for_outcomes(numbers)
        assert client.heard[0] == client.welcomes[0]


async def test_a_client_that_submits_more_than_may_wait_is_held_up_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path, monkeypatch, max_pending=100) as on:
        client, other = await on.client(), await on.client()
        template, large = on.function(), b"x" * 10_000
        batches = [client.submit(template, args=[large] * 20) for _ in range(60)]
        counts = on.coordinator.house._loop.counts
        await wait_until_async(lambda: counts.accepted > 100, what="more tasks than may wait")
        status, refusal = await on.coordinator.submit()
        assert (status, refusal["code"]) == (429, "overloaded")
        assert client.channel.backlog_bytes > 0, "the line is not congested"
        other.submit(TRUE)
        assert counts.accepted < 400
        await on.worker()
        await client.wait_for_outcomes([number for batch in batches for number in batch])
        await other.wait_for_outcomes([1])
        assert counts.accepted == 1201


async def test_a_client_that_is_held_up_makes_room_by_cancelling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path, monkeypatch, max_pending=100) as on:
        client = await on.client()
        batches = [client.submit(*[TRUE] * 20) for _ in range(10)]
        counts = on.coordinator.house._loop.counts
        await wait_until_async(lambda: counts.accepted > 100, what="more tasks than may wait")
        assert counts.accepted < 200
        first = await client.wait_for_tasks([number for batch in batches[:5] for number in batch])
        client.cancel(*first)
        await client.wait_for_tasks([number for batch in batches for number in batch])
        assert (counts.cancelled, counts.accepted) == (100, 200)


async def test_all_who_are_held_up_go_on_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(tmp_path, monkeypatch, max_pending=20) as on:
        greedy, modest = await on.client(), await on.client()
        batches = [greedy.submit(*[TRUE] * 20) for _ in range(20)]
        desk = on.coordinator.house._clients
        await wait_until_async(lambda: desk._held_up, what="somebody to be held up")
        (number,) = modest.submit(TRUE)
        await wait_until_async(lambda: len(desk._held_up) == 2, what="both to be held up")
        worker = await on.worker(is_eager=False)

        async def is_modest_accepted() -> bool:
            if worker.held:
                worker.end()
            return number in modest.seqs

        await wait_until_async(is_modest_accepted, what="the one task of the modest")
        assert not set(batches[-1]) & greedy.seqs.keys()


async def test_a_client_that_dies_while_it_is_held_up_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path, monkeypatch, max_pending=10) as on:
        client = await on.client()
        batches = [client.submit(*[TRUE] * 20) for _ in range(3)]
        await client.wait_for_tasks(batches[0])
        desk = on.coordinator.house._clients
        await wait_until_async(lambda: desk._held_up, what="the client to be held up")
        await client.leave_for_good()
        await wait_until_async(lambda: not len(desk) and not desk._held_up, what="the end of its session")
        assert on.coordinator.house._loop.counts.accepted == 20, "what it asked for and heard nothing of"
        await client.come_back()
        await on.worker()
        await client.wait_for_outcomes([number for batch in batches for number in batch])
        assert on.coordinator.house._loop.counts.accepted == 60


async def test_a_client_that_reads_too_slowly_is_sent_away_and_told_when_it_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota.coordinator.client_session.BACKLOG_BYTES_MAX", 1 << 20)
    monkeypatch.setattr("rota.coordinator.client_session.LOOK_UP_BACKLOG_BYTES", 1 << 18)
    monkeypatch.setattr("rota.coordinator.client_session.LOOK_UP_TASKS", 5)
    async with stage(tmp_path, monkeypatch) as on:
        worker = await on.worker(is_eager=False, value=b"v" * 60_000)
        client = await on.client()
        numbers = client.submit(on.function(), args=[b""] * 400)
        seqs = await client.wait_for_tasks(numbers)
        client.channel.pause_reading()
        for _ in range(0, 400, 20):
            await wait_until_async(lambda: len(worker.held) >= 20, what="attempts")
            worker.end(*list(worker.held)[:20])
        await wait_until_async(lambda: on.coordinator.house._loop.counts.completed == 400, what="all ends")
        assert client.session not in on.coordinator.house._clients._sessions
        client.channel.resume_reading()
        await client.wait_until_closed()
        assert len(client.outcomes) < 400
        await client.come_back()
        await client.wait_for_outcomes(numbers)
        assert sorted(client.told) == sorted(seqs)


@pytest.mark.slow
async def test_a_hundred_thousand_tasks_in_flight_are_told_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path, monkeypatch, max_pending=200_000) as on:
        worker = await on.worker(is_eager=False)
        client = await on.client()
        template = on.function()
        batches = [client.submit(template, args=[b"%d" % number for number in range(20_000)]) for _ in range(5)]
        numbers = [number for batch in batches for number in batch]
        seqs = await client.wait_for_tasks(numbers, timeout_s=60.0)
        assert len(set(seqs)) == 100_000
        worker.is_eager = True
        worker.end()
        outcomes = await client.wait_for_outcomes(numbers, timeout_s=60.0)
        assert {outcome.state for outcome in outcomes} == {TaskState.COMPLETED}
        assert set(client.told.values()) == {1}
        assert not on.coordinator.house._clients.followers


async def test_metrics_count_clients_and_what_they_submit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        await on.worker()
        client, _ = await on.client(), await on.client()
        await client.run(TRUE, TRUE)
        await on.coordinator.submit()
        page, _ = on.coordinator.house.service.metrics_text()
        assert b"rota_clients 2.0" in page
        assert b"rota_tasks_submitted_total 3.0" in page
        assert b"rota_tasks_submitted_channel_total 2.0" in page


async def test_templates_with_times_count_from_their_submission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path, monkeypatch) as on:
        await on.worker()
        client = await on.client()
        late = template_of(command=["true"], deadline=600.0, delay=0.01)
        first = await client.run(late)
        (second,) = await client.run(late)
        assert (first[0].state, second.state) == (TaskState.COMPLETED, TaskState.COMPLETED)
        tasks = [(await on.coordinator.ask("GET", f"/api/v1/tasks/t{seq}"))[1] for seq in client.seqs.values()]
        assert tasks[0]["deadline"] < tasks[1]["deadline"]

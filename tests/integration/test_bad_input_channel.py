"""Strangers, liars and doubles on the channel of workers, and tokens on every surface of a real coordinator."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from rota.core.model import Offer, TaskSeq, WorkerId
from rota.core.protocol import (
    PROTOCOL_VERSION,
    Ended,
    FromWorker,
    Hello,
    Report,
    Started,
)
from rota.wire.channel import CHANNEL_PATH, Transport
from tests.support.channels import TRANSPORTS
from tests.support.processes import running_rota
from tests.support.real_cluster import Cluster, Gate, Witness, over_both
from tests.support.talkers import HungUp, NotLetIn, Talker, talk
from tests.support.waiting import wait_until

ONE_CORE: Final = "--resources=cpu=1000,memory=1G"
TOKEN: Final = "a-token-of-letters"
EXIT_REFUSED: Final = 69

_encode = msgspec.msgpack.Encoder().encode


@pytest.fixture(scope="module", params=TRANSPORTS)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One cluster for all: what one stranger does to it must not disturb the next test, either."""
    with Cluster(tmp_path_factory.mktemp("strangers"), transport=request.param) as running:
        running.start_coordinator()
        running.start_worker("honest", ONE_CORE)
        yield running


@pytest.fixture
def cluster(shared: Cluster) -> Iterator[Cluster]:
    """The shared cluster, which must be sound after each test."""
    yield shared
    task = shared.client.submit({"command": ["true"]})
    assert shared.wait_for_end(task["id"])["worker"] == "honest", "the honest worker was harmed"
    assert "Traceback" not in shared.coordinator.output()


def hello(worker: str, *, version: int = PROTOCOL_VERSION) -> bytes:
    # Less than any task needs: nobody gives work to a stranger of ours.
    offer = Offer(resources=(("cpu", 1),), tags=frozenset(), max_tasks=100, kinds=frozenset({"process"}))
    return _encode(
        Hello(version, WorkerId(worker), f"instance-{worker}", offer, cluster=None, holds=[], ended=[], sent_at=0.0)
    )


def read(talker: Talker) -> dict[str, Any]:
    return msgspec.msgpack.decode(talker.receive(), type=dict[str, Any])


def expect_closed(talker: Talker) -> None:
    with suppress(HungUp):
        while True:
            talker.receive()


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\xff" * 1_000,
        b"\x81\xa4type\xa5hello",
        _encode({"type": "beat"}),
        _encode(["hello"] * 1_000),
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 5_000,
        random.Random(7).randbytes(5_000),
    ],
    ids=["empty", "ones", "half-a-hello", "no-fields", "a-list", "a-length-that-lies", "deep", "noise"],
)
@pytest.mark.parametrize("is_known", [False, True], ids=["stranger", "after-hello"])
def test_garbage_closes_only_the_channel_it_came_on(cluster: Cluster, garbage: bytes, *, is_known: bool) -> None:
    with talk(cluster) as talker:
        if is_known:
            talker.send(hello("liar"))
            talker.receive()
        talker.send(garbage)
        expect_closed(talker)
    node = cluster.node("honest")
    assert node is not None
    assert node["state"] == "online"


def test_a_message_over_the_limit_closes_the_channel(cluster: Cluster) -> None:
    with talk(cluster) as talker:
        with suppress(HungUp):
            talker.send(b"x" * (3 << 20))
        expect_closed(talker)


@pytest.mark.parametrize("shared", ["websocket"], indirect=True)
def test_text_closes_the_channel(cluster: Cluster) -> None:
    with connect(f"ws://127.0.0.1:{cluster.port}{CHANNEL_PATH}") as connection:
        connection.send("hello")
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=10.0)


def test_who_speaks_before_a_hello_or_says_it_twice_is_sent_away(cluster: Cluster) -> None:
    with talk(cluster) as talker:
        talker.send(_encode(Report(1, ended=[])))
        expect_closed(talker)
    with talk(cluster) as talker:
        talker.send(hello("twice"))
        talker.receive()
        talker.send(hello("twice"))
        expect_closed(talker)


def test_a_worker_of_another_version_is_refused_for_good(cluster: Cluster) -> None:
    with talk(cluster) as talker:
        talker.send(hello("old", version=99))
        answer = read(talker)
        assert (answer["type"], answer["code"], answer["retryable"]) == ("refused", "protocol_version", False)
        expect_closed(talker)
    assert cluster.node("old") is None


def test_a_lie_about_tasks_of_others_changes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    witness = Witness(tmp_path / "witness")
    with Gate(tmp_path / "gate") as gate, talk(cluster) as talker:
        task = cluster.client.submit({"shell": witness.shell(gate.shell)})
        witness.wait_for_starts(1)
        seq, stale = int(task["id"].removeprefix("t")), stale_reports(cluster)
        assert cluster.wait_for_state(task["id"], "running")["worker"] == "honest"
        talker.send(hello("liar"))
        talker.receive()
        lies: list[FromWorker] = [
            Report(1, [Started(TaskSeq(seq), 1, 0.0)], [Ended(TaskSeq(seq), 1, None, exit_code=0)]),
            Report(2, [], [Ended(TaskSeq(2**62), 1, None), Ended(TaskSeq(-1), -1, None)]),
        ]
        for lie in lies:
            talker.send(_encode(lie))
            assert read(talker)["type"] == "report-ack"
        assert cluster.client.task(task["id"])["state"] == "running"
        gate.open()
        assert cluster.wait_for_end(task["id"])["worker"] == "honest"
    assert stale_reports(cluster) - stale == 4


def stale_reports(cluster: Cluster) -> float:
    page = httpx.get(f"{cluster.url}/metrics").text
    found = re.search(r"^rota_results_dropped_stale_total (\S+)$", page, re.MULTILINE)
    assert found, page
    return float(found[1])


def test_a_taken_id_is_refused_until_its_owner_has_left(cluster: Cluster, tmp_path: Path) -> None:
    owner = cluster.start_worker("contested", ONE_CORE)
    node = cluster.node("contested")
    arguments = ["worker", "--id=contested", *cluster.addresses(), ONE_CORE]
    with running_rota(*arguments, log_path=tmp_path / "second.log") as second:
        second.wait_for_line("another worker is connected as 'contested': give this one another --id")
        assert cluster.node("contested")["instance"] == node["instance"]  # type: ignore[index]  # it is there
        owner.kill()
        second.wait_for_line("registered", timeout_s=60.0)
        second.kill()


@pytest.mark.parametrize("shared", ["websocket"], indirect=True)
@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}],
)
def test_a_page_of_a_foreign_site_opens_no_channel(cluster: Cluster, headers: dict[str, str]) -> None:
    with pytest.raises(NotLetIn) as refusal, talk(cluster, **headers):
        pass
    assert refusal.value.status == 403


SURFACES: Final = (
    ("GET", "/"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/metrics"),
    ("GET", "/readyz"),
    ("GET", "/api/v1/stats"),
    ("GET", "/api/v1/tasks"),
    ("POST", "/api/v1/tasks"),
    ("GET", "/api/v1/tasks/t1"),
    ("DELETE", "/api/v1/tasks/t1"),
    ("GET", "/api/v1/tasks/t1/logs"),
    ("GET", "/api/v1/tasks/t1/attempts"),
    ("GET", "/api/v1/tasks/t1/explain"),
    ("POST", "/api/v1/tasks/t1/retry"),
    ("GET", "/api/v1/nodes"),
    ("GET", "/api/v1/nodes/w1"),
    ("POST", "/api/v1/nodes/w1/drain"),
    ("POST", "/api/v1/nodes/w1/resume"),
    ("GET", "/api/v1/events"),
    ("GET", "/no/such/page"),
)


@over_both
def test_a_token_is_asked_for_on_every_surface(tmp_path: Path, transport: Transport) -> None:
    with Cluster(tmp_path, token=TOKEN, transport=transport) as cluster:
        cluster.start_coordinator()
        cluster.start_worker("w1", ONE_CORE)
        given: tuple[dict[str, str], ...] = (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": TOKEN},
        )
        with httpx.Client(base_url=cluster.url, timeout=10.0) as client:
            for method, path in SURFACES:
                for headers in given:
                    answer = client.request(method, path, headers=headers)
                    assert answer.status_code == 401, (method, path, headers)
                    assert TOKEN not in answer.text
                assert client.get(path, params={"token": TOKEN}).status_code == 401, "no token in an address"
            assert client.get("/healthz").status_code == 200
        for headers in given:
            with pytest.raises(NotLetIn) as refusal, talk(cluster, **headers):
                pass
            assert refusal.value.status == 401
        task = cluster.client.submit({"shell": "env"})
        assert cluster.wait_for_end(task["id"])["state"] == "completed"
        assert TOKEN.encode() not in b"".join(cluster.client.logs(task["id"], {}))
        assert TOKEN not in cluster.coordinator.output()


@over_both
def test_a_worker_with_a_wrong_token_leaves_with_a_sentence(tmp_path: Path, transport: Transport) -> None:
    with Cluster(tmp_path, token=TOKEN, transport=transport) as cluster:
        cluster.start_coordinator()
        for token, says in (("wrong", "the token is wrong"), (None, "a token is asked for")):
            arguments = ["worker", "--id=w1", *cluster.addresses(), ONE_CORE]
            env = {"ROTA_TOKEN": token} if token is not None else {}
            with running_rota(*arguments, log_path=tmp_path / "worker.log", env=env) as worker:
                assert worker.wait_for_exit() == EXIT_REFUSED
                assert says in worker.output()
        assert cluster.client.nodes() == []


def test_the_world_may_connect_with_a_token(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--host=0.0.0.0", token=TOKEN) as cluster:
        cluster.start_coordinator()
        wait_until(cluster.client.is_ready, what="an answer")

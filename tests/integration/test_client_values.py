"""Large values: through the coordinator's directory where the machine is shared, over HTTP from elsewhere."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from rota import Client
from rota.client import blobs as blobs_module
from rota.client.blobs import BlobExchange
from rota.core.errors import NotFound, TooLarge
from rota.core.protocol import BlobHome
from tests.support.real_cluster import Cluster

SOON_S = 20.0
COUNT = 200_000


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        running.start_coordinator()
        running.start_worker("w1", "--resources=cpu=4000,memory=8192")
        yield running


@pytest.fixture(params=["shared", "apart"])
def client(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Client]:
    """One that shares the machine with the coordinator, or believes that it doesn't."""
    is_ours = (lambda home: False) if request.param == "apart" else blobs_module._is_ours
    with mock.patch.object(blobs_module, "_is_ours", is_ours), Client(cluster.url) as connected:
        yield connected


def doubled(values: np.ndarray) -> np.ndarray:
    values *= 2  # in place: what comes in can be written to
    return values


def test_array_goes_and_comes_back_and_can_be_written_to(client: Client) -> None:
    sent = np.arange(COUNT, dtype=np.int64)
    for _ in range(2):
        got = client.submit(doubled, sent).result(SOON_S)
        assert np.array_equal(got, np.arange(COUNT) * 2)
        got[0] = 7
    assert sent[1] == 1


def test_text_of_some_megabytes_goes_and_comes_back(client: Client) -> None:
    text = "äöü" * 1_000_000
    assert client.submit(str.upper, text).result(SOON_S) == text.upper()


def test_large_error_comes_back(client: Client) -> None:
    def fail(text: str) -> None:
        raise ValueError(text)

    error = client.submit(fail, "x" * 100_000).exception(SOON_S)
    assert error is not None
    assert "xxx" in str(error)


def test_values_around_the_limit_of_what_is_inline(client: Client) -> None:
    for size in (65_400, 65_500, 65_536, 65_537, 66_000):
        assert client.submit(len, bytes(size)).result(SOON_S) == size
        assert len(client.submit(bytes, size).result(SOON_S)) == size


def test_many_large_values_in_a_map(client: Client) -> None:
    arrays = [np.full(20_000, number) for number in range(30)]
    sums = list(client.map(np.sum, arrays))
    assert sums == [20_000 * number for number in range(30)]


def test_large_result_is_there_after_the_client_is_closed(cluster: Cluster) -> None:
    with Client(cluster.url) as client:
        future = client.submit(bytes, 300_000)
    assert len(future.result(SOON_S)) == 300_000


def test_mapped_result_outlives_its_future(client: Client) -> None:
    got = client.submit(np.ones, 300_000).result(SOON_S)
    gc.collect()
    assert got.sum() == 300_000


def test_value_over_the_limit_is_refused_before_it_is_sent(client: Client) -> None:
    with (
        mock.patch.object(blobs_module, "BLOB_BYTES_MAX", 100_000),
        pytest.raises(TooLarge, match=r"the arguments of len are .* at most 100,000"),
    ):
        client.submit(len, bytes(200_000))
    assert client.submit(len, b"abc").result(SOON_S) == 3


def test_value_whose_blob_is_gone_says_so(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.start_coordinator()
        cluster.start_worker("w1", "--resources=cpu=4000,memory=8192")
        with Client(cluster.url) as client:
            future = client.submit(bytes, 400_000)
        for path in (cluster.state_dir / "blobs").glob("??/*"):
            path.unlink()
        with pytest.raises(NotFound, match="not kept any more"):
            future.result(SOON_S)


def test_function_that_the_coordinator_has_removed_is_brought_again(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.start_coordinator()
        cluster.start_worker("w1", "--resources=cpu=4000,memory=8192")
        with Client(cluster.url) as client:
            assert client.submit(doubled, np.ones(2)).result(SOON_S).sum() == 4
            cluster.coordinator.kill()
            for path in (cluster.state_dir / "blobs").glob("??/*"):
                path.unlink()
            cluster.start_coordinator()
            futures = [client.submit(doubled, np.ones(2)) for _ in range(3)]
            assert [future.result(SOON_S).sum() for future in futures] == [4, 4, 4]


def test_directory_of_another_machine_is_not_taken_for_the_coordinators(tmp_path: Path) -> None:
    home = BlobHome(str(tmp_path), "probe", "secret")
    assert not blobs_module._is_ours(home)
    (tmp_path / "probe").write_text("another secret")
    (tmp_path / "incoming").mkdir()
    assert not blobs_module._is_ours(home)
    (tmp_path / "probe").write_text("secret")
    assert blobs_module._is_ours(home)


def test_blob_that_could_not_be_written_here_is_sent(tmp_path: Path) -> None:
    transport = mock.Mock()
    transport.send.return_value.status = 200
    exchange = BlobExchange(transport, mock.Mock())
    (tmp_path / "probe").write_text("secret")
    (tmp_path / "incoming").mkdir()
    exchange.settle(BlobHome(str(tmp_path), "probe", "secret"))
    (tmp_path / "incoming").rmdir()
    exchange.put([b"abc"], "ab" * 32)
    assert transport.send.call_args.args == ("HEAD", "/api/v1/blobs/" + "ab" * 32)

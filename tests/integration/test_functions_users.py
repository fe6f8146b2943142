"""What users of Python functions see on a real cluster: names of what can't travel, notebooks, bars, joblib."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

import rota
from rota import Client, NotPicklable
from rota.functions.failure import RemoteTraceback


class Refused(Exception):
    """Of this module, which workers can't import."""

    def __init__(self, number: int, *, reason: str) -> None:
        super().__init__(f"{number}: {reason}")
        self.number = number


def square(x: int) -> int:
    return x * x


@rota.task(retries=1, name="cubes")
def cube(x: int) -> int:
    return x * square(x)


def refuse(x: int) -> None:
    raise Refused(x, reason="no")


def attempts(limit: int) -> int:
    attempt = rota.current().attempt
    if attempt <= limit:
        raise Refused(attempt, reason="not yet")
    return attempt


def total(array: Any, factor: int) -> float:
    return float(array.sum()) * factor


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client.local(workers=2) as made:
        yield made


def test_functions_of_this_module_travel_by_value(client: Client) -> None:
    assert list(client.map(square, range(100))) == [x * x for x in range(100)]


def test_options_of_a_decorated_function_reach_the_record(client: Client) -> None:
    future = cube.submit(3)
    assert future.result(30) == 27
    info = client.submit(cube, 2).info()
    assert (info["name"], info["retries"]) == ("cubes", 1)


def test_failed_function_is_tried_again_as_often_as_it_says(client: Client) -> None:
    stubborn = rota.task(retries=2, backoff=0.01)(attempts)
    assert client.submit(stubborn, 2).result(30) == 3
    with pytest.raises(Refused, match="1: not yet"):
        client.submit(attempts, 1).result(30)


def test_own_exception_is_caught_by_its_class(client: Client) -> None:
    with pytest.raises(Refused, match="7: no") as caught:
        client.submit(refuse, 7).result(30)
    assert caught.value.number == 7
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "in refuse" in caught.value.__cause__.text
    # Of the frames, only the user's own.
    assert caught.value.__cause__.text.count("  File ") == 1


def test_what_cannot_travel_is_named_at_the_call(client: Client) -> None:
    lock = threading.Lock()
    with pytest.raises(NotPicklable, match=r"argument 1 of square \(a _thread\.lock\)"):
        client.submit(square, lock)  # type: ignore[arg-type]  # that is what is refused
    with pytest.raises(NotPicklable, match="uses the variable `lock`"):
        client.submit(lambda: lock)
    assert client.submit(square, 2).result(30) == 4


def test_bars_go_around_results(client: Client) -> None:
    screen = io.StringIO()
    assert sum(tqdm(client.map(square, range(10)), total=10, file=screen)) == 285
    assert "10/10" in screen.getvalue()
    assert sum(rota.progress(client.map(square, range(10)), total=10)) == 285
    futures = [client.submit(square, x) for x in range(5)]
    assert sorted(future.result() for future in rota.progress(futures)) == [0, 1, 4, 9, 16]


def test_notebooks_show_clients_jobs_and_futures(client: Client) -> None:
    assert client.url in client._repr_html_()
    assert "w1 (Python 3." in client._repr_html_()
    future = client.job("<nightly>").submit(square, 3)
    assert future.result(30) == 9
    assert "completed" in future._repr_html_()
    assert "&lt;nightly&gt;" in client.job("<nightly>")._repr_html_()


def test_joblib_sends_what_is_common_once(client: Client) -> None:
    array = np.ones(200_000)
    with parallel_config(backend="rota", client=client, name="totals"):
        results = Parallel(batch_size=1)(delayed(total)(array, x) for x in range(12))
    assert results == [200_000.0 * x for x in range(12)]
    with parallel_config(backend="rota"):
        assert Parallel()(delayed(square)(x) for x in range(50)) == [x * x for x in range(50)]

"""joblib's loops as tasks: batches, what they share, failures, and how joblib comes to know of us."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score

from rota.client import joblib_backend
from rota.client.callables import Callables, dump_arguments, options_of
from rota.client.client import Client
from rota.client.joblib_backend import RotaBackend, lanes_for
from rota.client.options import Options
from rota.core.errors import NoCoordinator
from rota.functions.pickling import load_call, load_function
from tests.support.network import free_port


class FakeClient:
    """Does what a client and a worker do with a call, in threads of this process."""

    def __init__(self, lanes: int = 4) -> None:
        self._callables = Callables()
        self._pool = ThreadPoolExecutor(4)
        node = {"state": "online", "kinds": ["function"], "tags": [], "gpus": [], "max_tasks": lanes}
        node["resources"] = {"cpu": 64_000}
        self._hub = SimpleNamespace(rest=SimpleNamespace(nodes=lambda: [node]))
        self.digests: list[str] = []
        self.argument_bytes: list[int] = []
        self.names: list[str | None] = []
        self.threads: set[str] = set()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.threads.add(threading.current_thread().name)
        template = self._callables.template_of(fn)
        envelope = b"".join(dump_arguments(args, kwargs))
        self.digests.append(template.function_digest)
        self.argument_bytes.append(len(envelope))
        self.names.append(options_of(fn).name)
        return self._pool.submit(self._run, template.pickled, envelope)

    def _run(self, pickled: bytes, envelope: bytes) -> Any:
        args, kwargs = load_call(envelope)
        return load_function(pickled)(*args, **kwargs)

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()


@pytest.fixture
def client() -> Iterator[FakeClient]:
    with FakeClient() as made:
        yield made


def square(x: int) -> int:
    return x * x


def total(array: Any, factor: int) -> float:
    return float(array.sum()) * factor


def write_to(array: Any) -> None:
    array[0] = 1


def fail(x: int) -> None:
    raise ValueError(f"no {x}")


def nested(x: int) -> list[int]:
    return list(Parallel(n_jobs=2)(delayed(square)(x + y) for y in range(3)))


def test_loop_gives_its_results_in_order(client: FakeClient) -> None:
    with parallel_config(backend="rota", client=client):
        assert Parallel()(delayed(square)(x) for x in range(100)) == [x * x for x in range(100)]
    assert client.names[0] == "square"


def test_all_lanes_are_used(client: FakeClient) -> None:
    backend = RotaBackend(client)
    assert backend.effective_n_jobs(-1) == 4
    assert backend.effective_n_jobs(-2) == 3
    assert backend.effective_n_jobs(None) == 4
    assert backend.effective_n_jobs(7) == 7
    with FakeClient(lanes=1) as small:
        # Of one, joblib would make a loop in this process.
        assert RotaBackend(small).effective_n_jobs(-1) == 2
    with pytest.raises(ValueError, match="no meaning"):
        backend.effective_n_jobs(0)


def test_lanes_are_counted_for_what_the_tasks_need() -> None:
    node: dict[str, Any] = {
        "state": "online",
        "kinds": ["function", "process"],
        "tags": ["ssd"],
        "gpus": [{"memory": 8}],
        "max_tasks": 100,
        "resources": {"cpu": 4000, "memory": 8192},
    }
    assert lanes_for([node, {**node, "max_tasks": 3}], Options()) == 7
    assert lanes_for([node], Options(cpu=2)) == 2
    assert lanes_for([node], Options(memory="3G")) == 2
    assert lanes_for([node], Options(resources={"gpu": 1})) == 1
    assert lanes_for([node], Options(cpu=0)) == 100
    assert lanes_for([node], Options(tags=["gpu"])) == 0  # type: ignore[arg-type]  # a list is understood
    assert lanes_for([{**node, "state": "offline"}, {**node, "kinds": ["process"]}], Options()) == 0


def test_exception_of_a_batch_is_raised_and_the_loop_ends(client: FakeClient) -> None:
    with parallel_config(backend="rota", client=client), pytest.raises(ValueError, match="no 3"):
        Parallel(batch_size=1)(delayed(fail if x == 3 else square)(x) for x in range(1000))
    assert len(client.digests) < 200


def test_large_array_travels_once(client: FakeClient) -> None:
    array = np.ones(300_000)
    with parallel_config(backend="rota", client=client):
        results = Parallel(batch_size=1)(delayed(total)(array, x) for x in range(20))
    assert results == [300_000.0 * x for x in range(20)]
    assert sum(size > array.nbytes for size in client.argument_bytes) == 1
    assert len(set(client.digests)) == 2


def test_shared_array_cannot_be_written_to(client: FakeClient) -> None:
    array = np.ones(300_000)
    with parallel_config(backend="rota", client=client), pytest.raises(ValueError, match="read-only"):
        Parallel(batch_size=1)(delayed(write_to)(array) for _ in range(3))
    assert array[0] == 1.0


def test_next_loop_sees_what_has_changed_in_an_array(client: FakeClient) -> None:
    array = np.ones(300_000)
    with parallel_config(backend="rota", client=client):
        loop = Parallel(batch_size=1)
        assert loop(delayed(total)(array, 1) for _ in range(4)) == [300_000.0] * 4
        array[:] = 2
        assert loop(delayed(total)(array, 1) for _ in range(4)) == [600_000.0] * 4


def test_loops_inside_tasks_stay_there(client: FakeClient) -> None:
    with parallel_config(backend="rota", client=client):
        results = Parallel(batch_size=1)(delayed(nested)(x) for x in range(4))
    assert results[2] == [4, 9, 16]
    assert len(client.digests) == 4


def test_options_are_those_of_the_tasks(client: FakeClient) -> None:
    with parallel_config(backend="rota", client=client, retries=3, name="fits"):
        Parallel()(delayed(square)(x) for x in range(3))
    assert set(client.names) == {"fits"}
    with pytest.raises(TypeError, match="did you mean `retries`"):
        parallel_config(backend="rota", client=client, retires=3)


def test_results_are_yielded_as_they_come(client: FakeClient) -> None:
    with parallel_config(backend="rota", client=client):
        loop = Parallel(return_as="generator_unordered")(delayed(square)(x) for x in range(10))
        assert sorted(loop) == [x * x for x in range(10)]


def test_without_a_client_it_makes_one_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROTA_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr(joblib_backend, "Client", partial(Client, connect_timeout=0.1))
    with parallel_config(backend="rota"), pytest.raises(NoCoordinator):
        Parallel()(delayed(square)(x) for x in range(3))


def test_scikit_learn_searches_and_scores(client: FakeClient) -> None:
    X, y = make_classification(n_samples=200, n_features=8, random_state=0)  # noqa: N806 - as its users write it
    model = LogisticRegression()
    alone = cross_val_score(model, X, y, cv=4)
    with parallel_config(backend="rota", client=client):
        assert cross_val_score(model, X, y, cv=4, n_jobs=-1).tolist() == alone.tolist()
        search = GridSearchCV(model, {"C": [0.1, 1.0]}, cv=3, n_jobs=-1).fit(X, y)
        forest = RandomForestClassifier(10, n_jobs=-1, random_state=0).fit(X, y)
    assert search.best_params_["C"] in {0.1, 1.0}
    assert forest.score(X, y) > 0.8
    assert client.digests


@pytest.mark.parametrize(
    "first,second", [("import joblib", "from rota import task"), ("from rota import task", "import joblib")]
)
def test_backend_is_known_whichever_comes_first(first: str, second: str) -> None:
    script = f"""
import sys
{first}
{second}
from joblib import Parallel, parallel_config
assert "rota" in joblib.parallel.BACKENDS
assert "rota.client.joblib_backend" not in sys.modules
assert not [finder for finder in sys.meta_path if "rota" in type(finder).__module__]
assert type(joblib.parallel.__spec__.loader).__name__ == "SourceFileLoader"
with parallel_config(backend="rota"):
    assert type(Parallel()._backend).__name__ == "RotaBackend"
assert type(Parallel(backend="rota")._backend).__name__ == "RotaBackend"
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

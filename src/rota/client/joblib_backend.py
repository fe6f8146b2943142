"""joblib's parallel loops on Rota: ``with parallel_config(backend="rota"): ...``.

Whatever goes through joblib, such as scikit-learn with ``n_jobs``, then runs on the client in use. ``n_jobs=-1`` means
all lanes that the workers have for such tasks. Loops inside a task stay in its process, as threads.

joblib hands over batches, each with its own copy of all arguments. A large array that comes a second time is taken
to come with every batch, as the data of a grid search does: from then on it travels once (`SharedWork`),
and tasks must not write to it, which is joblib's own rule for large arrays.
"""

from __future__ import annotations

import io
import pickle
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

import cloudpickle
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase

from rota.client.callables import callable_name
from rota.client.client import Client
from rota.client.decorator import TaskFunction
from rota.client.default import find_client
from rota.client.options import Options
from rota.functions.shared import SharedWork

__all__ = ["RotaBackend", "lanes_for"]

SHARED_BYTES_LEAST: Final = 1 << 20
"""Of an array: smaller ones travel with each batch. joblib itself draws the line here."""

CPU_MILLI_DEFAULT: Final = 1000


class RotaBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib ships no types
    """Runs the batches of a parallel loop as tasks.

    Args:
        client: Where to. If not given, the client in use, or one of its own while a loop runs.
        nesting_level: joblib's: how deep this loop stands in others.
        inner_max_num_threads: joblib's; set ``env`` instead.
        options: Of the tasks, such as ``retries=2``: see `Options`.
    """

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(
        self,
        client: Any = None,  # a `Client`, or what can do as much
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._client = client
        self._options = Options.of(**options)
        self._open: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._callers: ThreadPoolExecutor | None = None
        self._own_client: Client | None = None
        self._sharing = Sharing()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many batches can run at once. At least 2 for all lanes: of 1, joblib makes a loop in this process."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is not None and n_jobs > 0:
            return n_jobs
        nodes = self._find_client()._hub.rest.nodes()  # noqa: SLF001 - a part of the client
        lanes = lanes_for(nodes, self._options)
        return max(2, lanes + 1 + (n_jobs if n_jobs is not None else -1))

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Future[Any]:
        """Submit a batch."""
        work, arguments = self._sharing.prepare(func)
        name = callable_name(func.items[0][0]) if func.items else "batch"
        options = self._options if self._options.name is not None else self._options.changed(name=name)
        future: Future[Any] = self._find_client().submit(TaskFunction(work, options), *arguments)
        with self._lock:
            self._open.add(future)
            if self._callers is None:
                self._callers = ThreadPoolExecutor(1, thread_name_prefix="rota-joblib")
            callers = self._callers
        # joblib's callback loads the result and submits the next batch, which the client's own thread must not.
        future.add_done_callback(lambda ended: self._ended(callers, ended, callback))
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """The results of a batch that has ended."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End what is still open: one batch has failed, or nobody wants the results."""
        del ensure_ready
        with self._lock:
            unwanted = list(self._open)
        for future in unwanted:
            getattr(future, "stop", future.cancel)()

    def stop_call(self) -> None:
        """One loop has ended: what its batches had in common is let go."""
        self._sharing = Sharing()

    def terminate(self) -> None:
        """The loops have ended."""
        with self._lock:
            callers, self._callers = self._callers, None
            own_client, self._own_client = self._own_client, None
        if own_client is not None:
            own_client.shutdown(wait=False)
        if callers is not None:
            callers.shutdown(wait=False)
        self._sharing = Sharing()
        self.reset_batch_stats()

    def _find_client(self) -> Any:  # as `client`
        client = find_client() if self._client is None else self._client
        if client is not None:
            return client
        with self._lock:
            if self._own_client is None:
                self._own_client = Client()
            return self._own_client

    def _ended(self, callers: ThreadPoolExecutor, future: Future[Any], callback: Callable[[Any], None] | None) -> None:
        with self._lock:
            self._open.discard(future)
        if callback is not None:
            with suppress(RuntimeError):  # the loop is over, and nobody waits for this batch
                callers.submit(callback, future)


class Sharing:
    """Finds the large arrays that batches have in common."""

    def __init__(self) -> None:
        self._seen: dict[tuple[Any, ...], Any] = {}
        self._works: dict[tuple[Any, ...], SharedWork] = {}
        self._lock = threading.Lock()

    def prepare(self, batch: Any) -> tuple[SharedWork, tuple[Any, ...]]:
        """A function, and its arguments, that do what the batch does."""
        with self._lock:
            file = io.BytesIO()
            buffers: list[pickle.PickleBuffer] = []
            pickler = _SharingPickler(file, buffers, self._seen)
            pickler.dump(batch)
            key = tuple(pickler.shared)
            work = self._works.get(key)
            if work is None:
                work = self._works[key] = SharedWork(tuple(pickler.shared.values()))
            return work, (file.getvalue(), *buffers)


class _SharingPickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle ships no types
    """Leaves out large arrays that were seen before.

    Args:
        file: To write to.
        buffers: Takes the other large things.
        seen: Arrays by what they are made of; those that are new are added.
    """

    def __init__(self, file: io.BytesIO, buffers: list[pickle.PickleBuffer], seen: dict[tuple[Any, ...], Any]) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffers.append)
        self._seen = seen
        self._is_new: set[tuple[Any, ...]] = set()
        self.shared: dict[tuple[Any, ...], Any] = {}

    def persistent_id(self, obj: Any) -> int | None:
        key = _array_key(obj)
        if key is None:
            return None
        if key not in self._seen:
            self._seen[key] = obj  # kept, so that its memory stays its own
            self._is_new.add(key)
        if key in self._is_new:
            return None
        self.shared.setdefault(key, obj)
        return list(self.shared).index(key)


def _array_key(value: Any) -> tuple[Any, ...] | None:
    """What a large array is made of: views on the same memory are the same; ``None`` for anything else."""
    kind = type(value)
    if kind.__name__ != "ndarray" or kind.__module__ != "numpy":
        return None
    if value.nbytes < SHARED_BYTES_LEAST or value.dtype.hasobject:
        return None
    return value.__array_interface__["data"][0], value.shape, value.strides, value.dtype.str


def lanes_for(nodes: Iterable[dict[str, Any]], options: Options) -> int:
    """How many tasks of these options the workers can run at once.

    Args:
        nodes: Workers as the REST API shows them.
        options: What each task needs.
    """
    needs = {"cpu": CPU_MILLI_DEFAULT, **options.resources}
    lanes = 0
    for node in nodes:
        if node["state"] != "online" or "function" not in node["kinds"] or not set(options.tags) <= set(node["tags"]):
            continue
        offers = {**node["resources"], "gpu": len(node["gpus"])}
        fits = [offers.get(name, 0) // amount for name, amount in needs.items() if amount and name != "gpu_memory"]
        lanes += min([node["max_tasks"], *fits])
    return lanes

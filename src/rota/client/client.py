"""`Client`: an executor whose tasks run on a cluster, are never lost, and can be found again.

It is a ``concurrent.futures.Executor``: whatever takes one of those takes this. What it adds stands at the end
of each task's way: `Future` knows the task's id, its output and its end, and a `Job` finds tasks by name from
another process. The work is done by `rota.client.hub`; here are the words that users say.
"""

from __future__ import annotations

import concurrent.futures
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from pathlib import Path
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar

from rota.client.callables import Callables, Template
from rota.client.calls import encoded_call, warn_of_workers
from rota.client.default import enter_client, leave_client
from rota.client.futures import Future, cancel_all, stop_all
from rota.client.hub import Hub
from rota.client.jobs import Job, checked_name, labelled
from rota.client.link import Address
from rota.client.local import LocalCluster
from rota.client.mapping import Enders, Feed, ordered, unordered, window_of
from rota.client.notebook import client_html
from rota.client.options import refuse_as_arguments
from rota.client.programs import Files, Program, program_spec
from rota.client.progress import progress as with_bar

__all__ = ["CONNECT_S", "DEFAULT_URL", "Client", "address_of"]

DEFAULT_URL: Final = "http://127.0.0.1:8080"

ENDERS: Final = Enders(cancel_all, stop_all)
CONNECT_S: Final = 10.0
"""How long a new client waits for its coordinator, which may just be starting."""

P = ParamSpec("P")
R = TypeVar("R")


class Client(concurrent.futures.Executor):
    """Sends functions to a coordinator, and gets their results back.

    Once it has been connected it goes on through any break of the connection, and any restart of the coordinator:
    what was submitted is neither lost nor done twice on the record. Safe to use from several threads; a forked
    process needs one of its own.

    Args:
        url: The coordinator; ``ROTA_URL`` if not given, else this machine.
        token: What it asks for; ``ROTA_TOKEN`` if not given.
        ca_file: On https, the authority to trust instead of the system's; ``ROTA_CA_FILE`` if not given.
        job: A name by which to find the tasks again: see `Client.job`.
        connect_timeout: Seconds to wait for the coordinator.

    Raises:
        NoCoordinator: None answers.
        Unauthorized: It wants another token.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        ca_file: str | os.PathLike[str] | None = None,
        job: str | None = None,
        connect_timeout: float = CONNECT_S,
    ) -> None:
        self._begin(address_of(url, token, ca_file), None, job, connect_timeout)

    def _begin(self, address: Address, cluster: LocalCluster | None, job: str | None, connect_timeout: float) -> None:
        self._job = None if job is None else checked_name(job)
        self._callables = Callables()
        self._hub = Hub(address, cluster=cluster)
        # Thrown away without a word, it takes nothing more and ends when its tasks have.
        self._finalizer = weakref.finalize(self, self._hub.close, cancel_futures=False, wait=False)
        self._finalizer.atexit = False
        self._hub.connect(connect_timeout)

    @classmethod
    def local(cls, workers: int = 2, *, job: str | None = None, options: Sequence[str] = ()) -> Self:
        """Start a cluster on this machine that ends with this client, and connect to it.

        Args:
            workers: How many, at least 1; they share the machine's cores.
            job: As for any client.
            options: Of ``rota up``, such as ``["--resources=cpu=4000"]``.
        """
        cluster = LocalCluster(workers, options)
        client = cls.__new__(cls)
        try:
            client._begin(Address(cluster.url, why_gone=cluster.why_gone), cluster, job, CONNECT_S)  # noqa: SLF001 - its own, made here
        except BaseException:
            cluster.stop()
            raise
        return client

    @property
    def url(self) -> str:
        """The coordinator."""
        return self._hub.address.url

    # Submitting -------------------------------------------------------------------------------

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Have ``fn(*args, **kwargs)`` run on a worker; options are those of ``@rota.task``.

        Waits only to bring a function or a large argument to the coordinator, and while very many tasks wait to
        be accepted.

        Raises:
            NotPicklable: The function or an argument can't travel; names the variable.
            TooLarge: The arguments are over 1 GiB.
            RuntimeError: The client is shut down.
        """
        return self._submit(self._job, fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        progress: bool = False,
    ) -> Iterator[R]:
        """Run ``fn`` with the items of the iterables, and yield the results in order.

        Items are submitted ahead of what is consumed: a list at once (up to some 100,000), a
        generator some 10,000 ahead, so it may be endless. When the consumer stops, the rest is cancelled; Ctrl-C
        while it waits stops what runs, too.

        Args:
            fn: The function.
            iterables: One for each of its arguments; the shortest ends it.
            timeout: Seconds from now for all results.
            chunksize: Taken for the sake of programs written for processes: tasks are batched by themselves.
            buffersize: How many items to submit ahead at most.
            progress: Whether to draw a bar where somebody looks; see `rota.progress`.
        """
        total = min((len(items) for items in iterables if isinstance(items, Sized)), default=None)
        feed = self._feed(self._job, fn, iterables, chunksize, buffersize)
        results: Iterator[R] = ordered(feed, timeout=timeout, enders=ENDERS)
        return with_bar(results, total) if progress else results

    def map_unordered(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        buffersize: int | None = None,
    ) -> Iterator[R]:
        """As `map`, but yield each result as soon as it is there."""
        return unordered(self._feed(self._job, fn, iterables, 1, buffersize), timeout=timeout, enders=ENDERS)

    def job(self, name: str) -> Job:
        """Tasks under a name: submit through it, or find those that were, from whatever process."""
        return Job(self, name)

    # Programs ---------------------------------------------------------------------------------

    def program(
        self, command: Sequence[str] | None = None, *, files: Files = (), outputs: Iterable[str] = (), **fields: Any
    ) -> Program:
        """Have a program run on a worker, in a scratch directory if it has files or outputs.

        Args:
            command: The program and its arguments.
            files: What lies in its directory: paths, or paths by the names that they are to have there.
            outputs: Patterns of what to keep of what it leaves there.
            fields: What else the task is to have, by the names of REST: ``shell``, ``env``, ``resources``, ``retries``.

        Raises:
            RotaError: A file can't be sent, or the task is refused; names the field.
        """
        fields = labelled(fields, self._job)
        rest = self._hub.rest
        spec, paths = program_spec(command, files=files, outputs=outputs, fields=fields)
        if paths:
            spec["files"] = rest.files.ship(paths)
        return Program(rest, rest.submit(spec)["id"])

    def find_program(self, task_id: str) -> Program:
        """The program of this id, whoever submitted it."""
        return Program(self._hub.rest, task_id)

    # The end ----------------------------------------------------------------------------------

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more.

        Args:
            wait: Return when all futures have ended; otherwise they go on to receive their results.
            cancel_futures: Cancel what is not known to run.
        """
        self._hub.close(cancel_futures=cancel_futures, wait=wait)

    close = shutdown

    def __enter__(self) -> Self:
        enter_client(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leave_client(self)
        # Who presses Ctrl-C does not want to wait for thousands of tasks that have not begun.
        self.shutdown(cancel_futures=kind is not None and issubclass(kind, KeyboardInterrupt))

    def __repr__(self) -> str:
        return f"<rota.Client of {self.url}>"

    def _repr_html_(self) -> str:
        return client_html(url=self.url, nodes=[(node.id, node.python) for node in self._hub.nodes])

    # How --------------------------------------------------------------------------------------

    def _submit(self, job: str | None, fn: Callable[..., R], args: Any, kwargs: Any) -> Future[R]:
        if kwargs:
            refuse_as_arguments(fn, kwargs)
        hub = self._hub
        template = self._template_of(fn, job)
        future: Future[R] = Future(hub, *encoded_call(hub.blobs, template, args, kwargs))
        hub.put((future,))
        return future

    def _template_of(self, fn: Callable[..., Any], job: str | None) -> Template:
        template = self._callables.template_of(fn, job=job)
        if self._hub.bring(template):
            warn_of_workers(template, fn, self._hub.nodes)
        return template

    def _feed(
        self,
        job: str | None,
        fn: Callable[..., Any],
        iterables: Sequence[Iterable[Any]],
        chunksize: int,
        buffersize: int | None,
    ) -> Feed[Future[Any]]:
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        hub = self._hub

        def submit(calls: list[tuple[Any, ...]]) -> list[Future[Any]]:
            template = self._template_of(fn, job)
            futures: list[Future[Any]] = [Future(hub, *encoded_call(hub.blobs, template, args, {})) for args in calls]
            hub.put(futures)
            return futures

        return Feed(zip(*iterables, strict=False), submit, window_of(iterables, buffersize))


def address_of(url: str | None, token: str | None, ca_file: str | os.PathLike[str] | None) -> Address:
    """What was given, else what the environment says."""
    if not isinstance(url, str | None):
        raise TypeError(f"url must be a text such as 'http://127.0.0.1:8080', got {url!r}")
    ca_text = os.environ.get("ROTA_CA_FILE") if ca_file is None else os.fspath(ca_file)
    return Address(
        url=(url or os.environ.get("ROTA_URL") or DEFAULT_URL).rstrip("/"),
        token=(os.environ.get("ROTA_TOKEN") if token is None else token) or None,
        ca_file=Path(ca_text) if ca_text else None,
    )

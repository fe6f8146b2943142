"""`Job`: tasks under a name, which any process can find again.

The name is the label ``job`` of each of its tasks: the record itself knows what belongs to a job, nothing else is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, cast

from rota.client.default import find_client
from rota.client.futures import Future
from rota.client.notebook import job_html
from rota.core.errors import BadRequest
from rota.core.model import TaskSeq, find_generated_seq

if TYPE_CHECKING:
    from rota.client.client import Client
    from rota.client.http import HttpClient

__all__ = ["JOB_LABEL", "Job", "checked_name", "job", "labelled", "list_seqs", "list_tasks"]

JOB_LABEL: Final = "job"

PAGE: Final = 1_000
"""Tasks listed in one request: the most that there can be."""

P = ParamSpec("P")
R = TypeVar("R")


class Job:
    """The tasks that have a name in common. Made by `Client.job`.

    Args:
        client: Through which to submit and to look.
        name: What was given to ``Client(job=…)`` or `Client.job`.
    """

    def __init__(self, client: Client, name: str) -> None:
        self.name = checked_name(name)
        self._client = client

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """As `Client.submit`, under this name."""
        return self._client._submit(self.name, fn, args, kwargs)  # noqa: SLF001 - a part of the client

    def map(self, fn: Callable[..., R], *iterables: Iterable[Any]) -> list[Future[R]]:
        """Submit a call for each item, and return the futures.

        Other than `Client.map`, which cancels what nobody consumes: a job is meant to outlive its program.
        """
        return [self.submit(fn, *args) for args in zip(*iterables, strict=False)]

    def futures(self) -> list[Future[Any]]:
        """All tasks of the job that are on record, in the order in which they were accepted."""
        hub = self._client._hub  # noqa: SLF001 - a part of the client
        futures = []
        for seq in list_seqs(hub.rest, self.name):
            future: Future[Any] = Future(hub, b"", None)
            future.seq = seq
            futures.append(future)
        hub.follow(futures)
        return futures

    def results(self, timeout: float | None = None) -> Iterator[Any]:
        """Yield what the tasks returned, in the order in which they were accepted; each is waited for.

        Args:
            timeout: Seconds for each of them.
        """
        for future in self.futures():
            yield future.result(timeout)

    def status(self) -> dict[str, int]:
        """Count the tasks by state."""
        rest = self._client._hub.rest  # noqa: SLF001 - a part of the client
        return dict(Counter(task["state"] for task in list_tasks(rest, self.name)))

    def __repr__(self) -> str:
        return f"<rota.Job {self.name!r} of {self._client.url}>"

    def _repr_html_(self) -> str:
        return job_html(name=self.name, counts=self.status())


def job(name: str) -> Job:
    """The job of this name at the client in use: that of the innermost ``with Client()``.

    Without one a client is made of what the environment says, and kept for the next time.
    """
    client = find_client()
    return _own_client().job(name) if client is None else cast("Client", client).job(name)


@cache
def _own_client() -> Client:
    from rota.client.client import Client  # noqa: PLC0415 - it needs us

    return Client()


def list_tasks(rest: HttpClient, name: str) -> Iterator[dict[str, Any]]:
    """All tasks of a job, as REST shows them, newest first."""
    for page in rest.tasks({"label": f"{JOB_LABEL}={name}", "limit": PAGE}):
        yield from page


def list_seqs(rest: HttpClient, name: str) -> list[TaskSeq]:
    """The tasks of a job that an SDK can follow, in the order in which they were accepted."""
    seqs = (find_generated_seq(task["id"]) for task in list_tasks(rest, name))
    return sorted(seq for seq in seqs if seq is not None)  # one with a chosen id was not submitted by an SDK


def labelled(fields: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """The fields of a task with the label of a job, if it is to have one; what the user labels goes first."""
    if name is None:
        return dict(fields)
    return {**fields, "labels": {JOB_LABEL: name, **fields.get("labels", {})}}


def checked_name(name: str) -> str:
    """Return the name of a job.

    Raises:
        BadRequest: It is empty.
        TypeError: It is no text.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a job must be a text, got {name!r}")
    if not name:
        raise BadRequest("a job needs a name")
    return name

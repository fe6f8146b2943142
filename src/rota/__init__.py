"""Rota: a distributed task scheduler. One command to start, one line to submit, nothing lost.

What Python programs use is here: ``from rota import Client``. It is loaded when it is first asked for, so that the
command line starts quickly.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers know it: `typing` would be memory of every slot, which loads this, too

if TYPE_CHECKING:
    from rota.client.aio import AsyncClient
    from rota.client.aio_hub import AsyncFuture
    from rota.client.aio_jobs import AsyncJob
    from rota.client.aio_programs import AsyncProgram
    from rota.client.client import Client
    from rota.client.decorator import task
    from rota.client.futures import Future
    from rota.client.jobs import Job, job
    from rota.client.modules import pickle_by_value
    from rota.client.options import Options
    from rota.client.programs import Program
    from rota.client.progress import progress
    from rota.client.versions import VersionWarning
    from rota.core.errors import NoCoordinator, NotPicklable, RotaError, TaskFailed
    from rota.functions.context import NotInATask, TaskCancelled, current, find_current

__version__ = "0.1.0"
__all__ = [
    "AsyncClient",
    "AsyncFuture",
    "AsyncJob",
    "AsyncProgram",
    "Client",
    "Future",
    "Job",
    "NoCoordinator",
    "NotInATask",
    "NotPicklable",
    "Options",
    "Program",
    "RotaError",
    "TaskCancelled",
    "TaskFailed",
    "VersionWarning",
    "__version__",
    "current",
    "find_current",
    "job",
    "pickle_by_value",
    "progress",
    "task",
]

_HOMES = {
    "AsyncClient": "rota.client.aio",
    "AsyncFuture": "rota.client.aio_hub",
    "AsyncJob": "rota.client.aio_jobs",
    "AsyncProgram": "rota.client.aio_programs",
    "Client": "rota.client.client",
    "Future": "rota.client.futures",
    "Job": "rota.client.jobs",
    "NoCoordinator": "rota.core.errors",
    "NotInATask": "rota.functions.context",
    "NotPicklable": "rota.core.errors",
    "Options": "rota.client.options",
    "Program": "rota.client.programs",
    "RotaError": "rota.core.errors",
    "TaskCancelled": "rota.functions.context",
    "TaskFailed": "rota.core.errors",
    "VersionWarning": "rota.client.versions",
    "current": "rota.functions.context",
    "find_current": "rota.functions.context",
    "job": "rota.client.jobs",
    "pickle_by_value": "rota.client.modules",
    "progress": "rota.client.progress",
    "task": "rota.client.decorator",
}
"""Where each name is at home."""


if not TYPE_CHECKING:  # a misspelt name is to be seen

    def __getattr__(name: str) -> object:
        from importlib import import_module  # noqa: PLC0415 - slots, which load this, do without

        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'rota' has no attribute {name!r}")
        value = getattr(import_module(home), name)
        globals()[name] = value  # the next time it is found without us
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

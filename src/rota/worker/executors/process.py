"""Runs programs: ``command`` as it is, ``shell`` by ``/bin/sh -c``.

A task's environment is a short base (`base_environment`), then what the task asks for, then facts about
itself as ``ROTA_…``. Nothing else of the worker's environment reaches a task, above all no token.
On a worker with GPUs ``CUDA_VISIBLE_DEVICES`` names the devices that the task was given; it is empty for
a task that was given none, because the default would be all of them, other tasks' included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rota.core.protocol import GangFacts
from rota.core.spec import TaskSpec, priority_of
from rota.worker.executors.base import Launch, LaunchRefused
from rota.worker.slots.base import Work

__all__ = ["ProcessExecutor", "base_environment", "facts_of", "gang_environment"]

BASE_NAMES: Final = frozenset({"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TMPDIR", "TZ"})
"""Variables that say where things are and how people read, and hold no secrets. ``LC_…`` goes with them."""

NO_SNIPPET: Final = "its data is nothing that can be run: it must begin with python: or go:, and then comes the code"
"""Clients of TaskAndGo are told so here, not when they submit, as they are used to."""

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ProcessExecutor:
    """The executor ``process``."""

    def __init__(self, *, worker_id: str, has_gpus: bool) -> None:
        self._worker_id = worker_id
        self._has_gpus = has_gpus

    def launch(self, spec: TaskSpec, work: Work) -> Launch:
        if spec.command:
            argv = spec.command
        elif spec.shell is not None:
            argv = ["/bin/sh", "-c", spec.shell]
        elif spec.data is not None:
            raise LaunchRefused(NO_SNIPPET)
        else:
            raise LaunchRefused("there is neither a command nor a shell line to run")
        return Launch(
            argv=argv,
            env={**spec.env, **facts_of(spec, work, worker_id=self._worker_id, has_gpus=self._has_gpus)},
            cwd=spec.cwd,
            stdin=None if spec.stdin is None else spec.stdin.encode(),
            timeout_s=spec.timeout,
            memory_mib=spec.resources.get("memory") or None,
        )


def facts_of(spec: TaskSpec, work: Work, *, worker_id: str, has_gpus: bool) -> dict[str, str]:
    """What an attempt is told about itself, whatever its executor."""
    facts = {
        "ROTA_TASK_ID": work.id,
        "ROTA_ATTEMPT": str(work.key[1]),
        "ROTA_WORKER": worker_id,
        "ROTA_QUEUE": spec.queue,
        "ROTA_PRIORITY": str(priority_of(spec)),
    }
    if work.gang is not None:
        facts |= gang_environment(work.gang)
    if has_gpus or work.devices:
        facts["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, work.devices))
    return facts


def gang_environment(gang: GangFacts) -> dict[str, str]:
    """What a member of a gang finds out about it.

    >>> gang_environment(GangFacts("train", 1, ("10.0.0.1", "10.0.0.2")))
    {'ROTA_GANG_RANK': '1', 'ROTA_GANG_SIZE': '2', 'ROTA_GANG_HOSTS': '10.0.0.1,10.0.0.2'}
    """
    return {
        "ROTA_GANG_RANK": str(gang.rank),
        "ROTA_GANG_SIZE": str(len(gang.hosts)),
        "ROTA_GANG_HOSTS": ",".join(gang.hosts),
    }


def base_environment(own: Mapping[str, str]) -> dict[str, str]:
    """What every task inherits of the worker's environment.

    >>> base_environment({"LC_ALL": "C.UTF-8", "AWS_SECRET": "x", "PATH": "/bin"})
    {'PATH': '/bin', 'LC_ALL': 'C.UTF-8'}
    """
    kept = {name: value for name, value in own.items() if name in BASE_NAMES or name.startswith("LC_")}
    return {"PATH": DEFAULT_PATH, **kept}

"""Runs snippets of Go: whole programs, built once for equal code and then started like any other program.

The build is no part of the attempt: it has limits of its own, and the task's time-out and memory are the program's.
"""

from __future__ import annotations

from rota.core.spec import TaskSpec, code_of
from rota.worker.executors.base import Launch, LaunchRefused, ScratchUse
from rota.worker.executors.process import facts_of
from rota.worker.slots.base import Programs, ScratchPlaces, Work

__all__ = ["GoExecutor"]


class GoExecutor:
    """The executor ``go``.

    Args:
        worker_id: For ``ROTA_WORKER``.
        has_gpus: Whether tasks without devices must be kept from the worker's GPUs.
        scratch: Where snippets have their directories.
        programs: Knows what code is built to.
    """

    def __init__(self, *, worker_id: str, has_gpus: bool, scratch: ScratchPlaces, programs: Programs) -> None:
        self._worker_id = worker_id
        self._has_gpus = has_gpus
        self._scratch = scratch
        self._programs = programs

    def launch(self, spec: TaskSpec, work: Work) -> Launch:
        code = code_of(spec)
        if code is None:
            raise LaunchRefused("there is no code to run")
        return Launch(
            argv=list(spec.command or ()),
            env={**spec.env, **facts_of(spec, work, worker_id=self._worker_id, has_gpus=self._has_gpus)},
            cwd=spec.cwd,
            stdin=None if spec.stdin is None else spec.stdin.encode(),
            timeout_s=spec.timeout,
            memory_mib=spec.resources.get("memory") or None,
            scratch=ScratchUse(self._scratch.path_of(work.key), language="go", source=self._programs.source),
            build=self._programs.build_of(code),
        )

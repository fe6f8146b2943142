"""Runs synthetic work: a small program that keeps a core busy, writes and reads, or holds memory, and says what it did.

It is a program like any other, so limits, time-outs and cancelling are tried as they are.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from rota.core.spec import TaskSpec
from rota.worker.executors.base import Launch, LaunchRefused
from rota.worker.executors.process import facts_of
from rota.worker.slots.base import Work

__all__ = ["WorkloadExecutor"]

PROGRAM: Final = str(Path(__file__).with_name("synthetic.py"))
"""Started by its path: as a module, its packages would be imported first, which takes several times as long."""


class WorkloadExecutor:
    """The executor ``workload``."""

    def __init__(self, *, worker_id: str, has_gpus: bool) -> None:
        self._worker_id = worker_id
        self._has_gpus = has_gpus

    def launch(self, spec: TaskSpec, work: Work) -> Launch:
        if spec.workload is None:
            raise LaunchRefused("there is no workload to run")
        mix, seconds, mib = spec.workload.mix, spec.workload.seconds, spec.workload.mib
        return Launch(
            argv=[sys.executable, "-I", "-S", PROGRAM, mix, repr(seconds), str(mib)],
            env={**spec.env, **facts_of(spec, work, worker_id=self._worker_id, has_gpus=self._has_gpus)},
            cwd=spec.cwd,
            stdin=None if spec.stdin is None else spec.stdin.encode(),
            timeout_s=spec.timeout,
            memory_mib=spec.resources.get("memory") or None,
        )

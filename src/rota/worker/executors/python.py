"""Runs snippets of Python: each in a fresh interpreter, in a scratch directory of its own.

The interpreter is the worker's own, so what is installed for the worker can be imported, as functions can import it.
The code is a file, so it may be as large as a spec, and tracebacks show its lines. Output is not buffered, so that it
can be followed, and nothing of it is lost when the snippet is killed.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from rota.core.spec import TaskSpec, code_of
from rota.worker.executors.base import Launch, LaunchRefused, ScratchUse
from rota.worker.executors.process import facts_of
from rota.worker.slots.base import ScratchPlaces, Work
from rota.worker.slots.sources import function_environment

__all__ = ["PythonExecutor"]

SOURCE: Final = "task.py"


class PythonExecutor:
    """The executor ``python``.

    Args:
        worker_id: For ``ROTA_WORKER``.
        has_gpus: Whether tasks without devices must be kept from the worker's GPUs.
        scratch: Where snippets have their directories.
    """

    def __init__(self, *, worker_id: str, has_gpus: bool, scratch: ScratchPlaces) -> None:
        self._worker_id = worker_id
        self._has_gpus = has_gpus
        self._scratch = scratch

    def launch(self, spec: TaskSpec, work: Work) -> Launch:
        code = code_of(spec)
        if code is None:
            raise LaunchRefused("there is no code to run")
        path = self._scratch.path_of(work.key)
        facts = facts_of(spec, work, worker_id=self._worker_id, has_gpus=self._has_gpus)
        return Launch(
            argv=[sys.executable, "-u", f"{path}/{SOURCE}", *(spec.command or ())],
            env={**function_environment(os.environ), **spec.env, **facts},
            cwd=spec.cwd,
            stdin=None if spec.stdin is None else spec.stdin.encode(),
            timeout_s=spec.timeout,
            memory_mib=spec.resources.get("memory") or None,
            scratch=ScratchUse(path, files=((SOURCE, code.encode()),), language="python", source=SOURCE),
        )

"""Attempts on their way to a slot: what each is to do, and what it needs before it can.

A program can go as soon as it is read. A function needs slots that run functions, perhaps in an environment with its
requirements, and the blobs that it refers to; its order can be made once these are here.
"""

from __future__ import annotations

from msgspec import Struct

from rota.core.model import AttemptKey
from rota.core.spec import decode_spec, kind_of
from rota.worker.executors.base import Executor, Launch, LaunchRefused
from rota.worker.executors.function import CallReader, FunctionCall
from rota.worker.executors.go import GoExecutor
from rota.worker.executors.process import ProcessExecutor
from rota.worker.executors.python import PythonExecutor
from rota.worker.executors.workload import WorkloadExecutor
from rota.worker.slots.base import Build, Stock, Work
from rota.worker.slots.frames import Order
from rota.worker.slots.sources import FUNCTIONS, PROGRAMS, SourceKey

__all__ = ["Errand", "ErrandReader"]


class Errand(Struct, gc=False):
    """An attempt to run: the order of a program, or the call of a function with its arguments.

    With a ``build`` the order is not whole: its program is still to be put in front.
    """

    key: AttemptKey
    source: SourceKey
    work: Work
    order: Order | None = None
    build: Build | None = None
    call: FunctionCall | None = None
    args: bytes = b""

    @property
    def needs(self) -> tuple[str, ...]:
        """The digests of the blobs that must be on this machine."""
        return self.call.needs if self.call is not None else ()

    @property
    def devices(self) -> tuple[int, ...]:
        """The GPUs to which its slot is bound; a program has no part in what its slot ran before."""
        return self.work.devices if self.call is not None else ()

    @property
    def memory_mib(self) -> int | None:
        """The limit of the memory that its slot may have kept from what it ran before; of a program's, nothing is."""
        return self.call.memory_mib if self.call is not None else None


class ErrandReader:
    """Makes errands of what the agent is given.

    Args:
        worker_id: For ``ROTA_WORKER``.
        has_gpus: Whether tasks without devices must be kept from the worker's GPUs.
        stock: Says what can run here.
    """

    def __init__(self, *, worker_id: str, has_gpus: bool, stock: Stock) -> None:
        self._runs_functions = stock.blobs is not None
        self._calls = CallReader()
        self._executors: dict[str, Executor] = {
            "process": ProcessExecutor(worker_id=worker_id, has_gpus=has_gpus),
            "workload": WorkloadExecutor(worker_id=worker_id, has_gpus=has_gpus),
        }
        if stock.scratch is not None:
            self._executors["python"] = PythonExecutor(worker_id=worker_id, has_gpus=has_gpus, scratch=stock.scratch)
            if stock.programs is not None:
                self._executors["go"] = GoExecutor(
                    worker_id=worker_id, has_gpus=has_gpus, scratch=stock.scratch, programs=stock.programs
                )

    def read(self, work: Work) -> Errand:
        """Read a spec.

        Raises:
            LaunchRefused: It can't be run on this worker.
        """
        found = self._calls.read(work.spec)
        if found is None:
            return self._program(work)
        if not self._runs_functions:
            raise LaunchRefused("this worker runs no functions")
        call, args = found
        source = (*FUNCTIONS, *call.requirements) if call.requirements else FUNCTIONS
        return Errand(work.key, source, work, call=call, args=args)

    def _program(self, work: Work) -> Errand:
        spec = decode_spec(work.spec)
        executor = self._executors.get(kind_of(spec))
        if executor is None:
            raise LaunchRefused(f"this worker has no executor for {kind_of(spec)!r}")
        launch = executor.launch(spec, work)
        return Errand(work.key, PROGRAMS, work, order=_order_of(launch, work), build=launch.build)


def _order_of(launch: Launch, work: Work) -> Order:
    """The order for a slot. A scratch directory is where the program runs, unless it says where, and its TMPDIR."""
    env, cwd, scratch = launch.env, launch.cwd, launch.scratch
    if scratch is not None:
        env = {"TMPDIR": scratch.path, **env, "ROTA_SCRATCH": scratch.path}
        cwd = cwd or scratch.path
    task, attempt = work.key
    limits = launch.timeout_s, launch.memory_mib
    directory = None if scratch is None else (scratch.path, list(scratch.files), scratch.language, scratch.source)
    return (task, attempt, launch.argv, env, cwd, launch.stdin, *limits, directory)

"""Attempts on their way to a slot: what each is to do, and what it needs before it can.

A program can go as soon as it is read, unless files go with it. A function needs slots that run functions, perhaps in
an environment with its requirements, and the blobs that it refers to; an order can be made once these are here.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from rota.core.model import AttemptKey
from rota.core.spec import decode_spec, kind_of
from rota.worker.executors.base import Executor, Launch, LaunchRefused, ScratchUse
from rota.worker.executors.function import CallReader, FunctionCall
from rota.worker.executors.go import GoExecutor
from rota.worker.executors.process import ProcessExecutor
from rota.worker.executors.python import PythonExecutor
from rota.worker.executors.workload import WorkloadExecutor
from rota.worker.slots.base import Build, Stock, Work
from rota.worker.slots.frames import Order
from rota.worker.slots.freight import Freight, freight_of
from rota.worker.slots.sources import FUNCTIONS, PROGRAMS, SourceKey

__all__ = ["Errand", "ErrandReader"]


class Errand(Struct, gc=False):
    """An attempt to run: the order of a program with its freight, or the call of a function with its arguments.

    With a ``build`` the order is not whole: its program is still to be put in front. Nor is it with ``freight``, before
    the files are here. ``kept`` are the digests and the names of programs that must stay as long as it is here.
    """

    key: AttemptKey
    source: SourceKey
    work: Work
    order: Order | None = None
    build: Build | None = None
    call: FunctionCall | None = None
    args: bytes = b""
    kept: tuple[str, ...] = ()
    freight: Freight | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """The digests of the blobs that must be on this machine."""
        if self.call is not None:
            return self.call.needs
        return self.freight.needs if self.freight is not None else ()

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
        self._stock = stock
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
        if self._stock.blobs is None:
            raise LaunchRefused("this worker runs no functions")
        call, args = found
        source = (*FUNCTIONS, *call.requirements) if call.requirements else FUNCTIONS
        return Errand(work.key, source, work, call=call, args=args, kept=call.needs)

    def _program(self, work: Work) -> Errand:
        spec = decode_spec(work.spec)
        executor = self._executors.get(kind_of(spec))
        if executor is None:
            raise LaunchRefused(f"this worker has no executor for {kind_of(spec)!r}")
        launch = executor.launch(spec, work)
        freight = freight_of(spec)
        if freight is not None:
            launch = self._with_scratch(launch, work, freight)
        kept = freight.needs if freight is not None else ()
        if launch.build is not None:
            kept = (*kept, launch.build.name)
        order = _order_of(launch, work)
        return Errand(work.key, PROGRAMS, work, order=order, build=launch.build, kept=kept, freight=freight)

    def _with_scratch(self, launch: Launch, work: Work, freight: Freight) -> Launch:
        """The launch of a program that has files, in a scratch directory in any case."""
        if self._stock.scratch is None or self._stock.blobs is None:
            raise LaunchRefused("this worker has no place for files")
        if launch.scratch is None:
            return replace(launch, scratch=ScratchUse(self._stock.scratch.path_of(work.key)))
        freight.check_beside(launch.scratch)
        return launch


def _order_of(launch: Launch, work: Work) -> Order:
    """The order for a slot, without its freight.

    A scratch directory is where the program runs, unless it says where, and its TMPDIR.
    """
    env, cwd, scratch = launch.env, launch.cwd, launch.scratch
    if scratch is not None:
        env = {"TMPDIR": scratch.path, **env, "ROTA_SCRATCH": scratch.path}
        cwd = cwd or scratch.path
    task, attempt = work.key
    limits = launch.timeout_s, launch.memory_mib
    directory = None if scratch is None else (scratch.path, list(scratch.files), scratch.language, scratch.source)
    return (task, attempt, launch.argv, env, cwd, launch.stdin, *limits, directory, None)

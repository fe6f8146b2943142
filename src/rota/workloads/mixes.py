"""What tasks do: mixes of synthetic work, with the resources that such work asks for.

A mix has a number of *shapes*, kinds of tasks that differ in what they ask for, as the programs of a cluster do. They
are drawn when the mix is made, so two mixes of the same seed are the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Final, Protocol

from msgspec import Struct

from rota.core.model import SyntheticWork
from rota.core.spec import TaskRequest, TaskSpec
from rota.workloads.durations import Durations
from rota.workloads.named import check_amount, pick

__all__ = ["MIXES", "CpuMix", "IoMix", "MemoryMix", "Mix", "MixedMix", "WorkloadTask", "make_mix"]

SHAPES_MAX: Final = 100_000
MEMORY_STEP_MIB: Final = 4
"""By which shapes of a mix differ from each other, where there are more than its usual ones."""


class WorkloadTask(Struct, frozen=True, gc=False):
    """A task that is to be made up: what it is called, asks for and does."""

    name: str
    resources: Mapping[str, int]
    work: SyntheticWork

    def spec(self, *, queue: str = "default") -> TaskSpec:
        """The task as a user would submit it."""
        return TaskSpec(name=self.name, resources=dict(self.resources), queue=queue, workload=self.work)

    def request(
        self, *, queue: str = "default", task_id: str | None = None, labels: Mapping[str, str] = MappingProxyType({})
    ) -> TaskRequest:
        """The task as it is submitted, by an id and labels of the caller's if there are any."""
        return TaskRequest(
            id=task_id,
            name=self.name,
            resources=dict(self.resources),
            queue=queue,
            workload=self.work,
            labels=dict(labels),
        )


class Mix(Protocol):
    """A mix of tasks."""

    name: ClassVar[str]

    def draw(self, rng: random.Random) -> WorkloadTask:
        """Draw one."""
        ...


class _Shape(Struct, frozen=True):
    name: str
    resources: Mapping[str, int]
    mib: int


class _OneKind:
    """A mix all of whose tasks do the same kind of work, in several shapes."""

    name: ClassVar[str]
    USUAL: ClassVar[Sequence[tuple[int, int, int]]]
    """Of each shape: millicores, MiB that it asks for, MiB that it writes or holds."""

    def __init__(self, *, durations: Durations, shapes: int) -> None:
        self._durations = durations
        self._shapes = [self._shape(number) for number in range(shapes or len(self.USUAL))]

    def draw(self, rng: random.Random) -> WorkloadTask:
        shape = self._shapes[int(rng.random() * len(self._shapes))]
        work = SyntheticWork(self.name, self._durations.draw(rng), shape.mib)
        return WorkloadTask(shape.name, shape.resources, work)

    def _shape(self, number: int) -> _Shape:
        cpu, memory, mib = self.USUAL[number % len(self.USUAL)]
        memory += MEMORY_STEP_MIB * (number // len(self.USUAL))
        return _Shape(f"{self.name}-{number + 1}", {"cpu": cpu, "memory": memory}, mib)


class CpuMix(_OneKind):
    """Keeps cores busy: a core each, some tasks asking for two or four."""

    name: ClassVar[str] = "cpu"
    USUAL: ClassVar[Sequence[tuple[int, int, int]]] = ((1000, 128, 0), (1000, 256, 0), (2000, 256, 0), (4000, 512, 0))


class IoMix(_OneKind):
    """Writes, syncs and reads back: little processor, many at once."""

    name: ClassVar[str] = "io"
    USUAL: ClassVar[Sequence[tuple[int, int, int]]] = ((100, 64, 8), (250, 64, 32), (500, 128, 64))


class MemoryMix(_OneKind):
    """Holds memory: half a core, and from a quarter of a gigabyte to four."""

    name: ClassVar[str] = "memory"
    USUAL: ClassVar[Sequence[tuple[int, int, int]]] = ((500, 320, 256), (500, 1152, 1024), (1000, 4352, 4096))


class MixedMix:
    """Half of the tasks of the cpu mix, a quarter each of the two others. A third of the shapes each."""

    name: ClassVar[str] = "mixed"

    def __init__(self, *, durations: Durations, shapes: int) -> None:
        each = -(-shapes // 3)
        cpu, io, memory = (make(durations=durations, shapes=each) for make in (CpuMix, IoMix, MemoryMix))
        self._mixes: Sequence[_OneKind] = (cpu, cpu, io, memory)

    def draw(self, rng: random.Random) -> WorkloadTask:
        return self._mixes[int(rng.random() * 4)].draw(rng)


_Make = Callable[..., Mix]

MIXES: Final[Mapping[str, _Make]] = MappingProxyType({mix.name: mix for mix in (CpuMix, IoMix, MemoryMix, MixedMix)})
"""All mixes by name."""


def make_mix(name: str, *, durations: Durations, shapes: int = 0) -> Mix:
    """Make a mix.

    Args:
        name: One of `MIXES`.
        durations: How long its tasks take.
        shapes: How many kinds of tasks it has that ask for different things; 0 for as many as is usual for it, which
            are a few.

    Raises:
        BadRequest: There is no such mix, or not so many shapes.
    """
    make = pick("mix", name, MIXES)
    check_amount("shapes", shapes, least=0, most=SHAPES_MAX)
    return make(durations=durations, shapes=shapes)

"""What this machine has, what of it a worker offers, and how busy it is.

Limits of a container count as the machine's size: a worker in a container of 2 GiB on a host of
64 GiB must offer 2. They are read from cgroup version 2 or 1, whichever holds this process. GPUs are
asked of the driver (NVML); without one there are none. What people say with ``--resources`` and ``--gpus``
replaces what was found.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import psutil
import pynvml
from msgspec import Struct

from rota.core.model import Gpu, Resources
from rota.core.protocol import Usage

__all__ = [
    "Machine",
    "UsageSampler",
    "detect_amounts",
    "detect_machine",
    "offered_resources",
    "parse_gpus",
    "parse_resources",
]

MIB: Final = 1 << 20
GPUS_MAX: Final = 64
"""As a plain number for ``--gpus``; more than any machine has, so a larger number was meant as memory."""

AMOUNT_MAX: Final = 10**12


class Machine(Struct, frozen=True):
    """What was found. ``cpu_milli`` and ``memory_mib`` are within the limits of the worker's container."""

    host: str
    cpu_milli: int
    memory_mib: int
    gpus: tuple[Gpu, ...]


def detect_machine(*, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> Machine:
    """Look at the machine; the paths are arguments for the tests."""
    found = detect_amounts(proc=proc, cgroups=cgroups)
    return Machine(host=socket.gethostname(), cpu_milli=found["cpu"], memory_mib=found["memory"], gpus=_detect_gpus())


def detect_amounts(*, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> dict[str, int]:
    """Return cpu in millicores and memory in MiB, without a look at GPUs, whose driver may take seconds to start."""
    limits = list(_cgroup_limits(proc / "self/cgroup", cgroups))
    cpu_milli = 1000 * len(os.sched_getaffinity(0))
    memory_bytes = psutil.virtual_memory().total
    return {
        "cpu": max(1, min([cpu_milli, *(limit.cpu_milli for limit in limits if limit.cpu_milli)])),
        "memory": min([memory_bytes, *(limit.memory_bytes for limit in limits if limit.memory_bytes)]) // MIB,
    }


def offered_resources(machine: Machine, said: Mapping[str, int] | None, *, max_tasks: int | None) -> Resources:
    """What a worker offers: what people said, and for cpu and memory what was found where they said nothing.

    A worker that was told how many tasks to take at once, but nothing of cpu, offers at least one
    core for each.
    """
    amounts = {"cpu": machine.cpu_milli, "memory": machine.memory_mib}
    if max_tasks is not None:
        amounts["cpu"] = max(amounts["cpu"], 1000 * max_tasks)
    amounts.update(said or {})
    return tuple(sorted((name, amount) for name, amount in amounts.items() if amount))


def parse_resources(text: str) -> dict[str, int]:
    """Read ``--resources``: amounts by name, cpu in millicores and memory in MiB.

    >>> parse_resources("cpu=4000, memory=8000,disk=5")
    {'cpu': 4000, 'memory': 8000, 'disk': 5}

    Raises:
        ValueError: Says which part can't be read.
    """
    amounts: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not equals or not name or not number.isascii() or not number.isdigit() or int(number) > AMOUNT_MAX:
            raise ValueError(f"resources: {part!r} is not name=amount with a whole number, as in cpu=4000,memory=8000")
        if name in amounts:
            raise ValueError(f"resources: {name} is given twice")
        amounts[name] = int(number)
    return amounts


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """Read ``--gpus``: how many, or the MiB of memory of each, separated by commas.

    >>> parse_gpus("2")
    (Gpu(memory_mib=0, model=''), Gpu(memory_mib=0, model=''))
    >>> [gpu.memory_mib for gpu in parse_gpus("24576,81920")], parse_gpus("24576,")[0].memory_mib, parse_gpus("0")
    ([24576, 81920], 24576, ())

    Raises:
        ValueError: Says what it could have meant.
    """
    parts = [part.strip() for part in text.split(",")]
    numbers = parts[:-1] if len(parts) > 1 and not parts[-1] else parts
    if not all(number.isascii() and number.isdigit() and int(number) <= AMOUNT_MAX for number in numbers):
        raise ValueError(f"gpus: {text!r} is neither a count nor MiB of memory of each device, as in 24576,24576")
    if len(parts) > 1:
        return tuple(Gpu(memory_mib=int(number)) for number in numbers)
    if int(text) > GPUS_MAX:
        raise ValueError(f"gpus: {text} devices? For one device of {text} MiB write {text},")
    return (Gpu(),) * int(text)


class UsageSampler:
    """How busy the machine is, between one `sample` and the next."""

    def __init__(self) -> None:
        psutil.cpu_percent(None)  # the first call only notes where counting begins

    def sample(self) -> Usage:
        memory = psutil.virtual_memory()
        return Usage(
            cpu_percent=psutil.cpu_percent(None),
            memory_used_mib=(memory.total - memory.available) // MIB,
            memory_total_mib=memory.total // MIB,
            load_1m=os.getloadavg()[0],
        )


class _Limits(Struct, frozen=True):
    """Of one cgroup; ``None`` where it sets none."""

    cpu_milli: int | None
    memory_bytes: int | None


def _cgroup_limits(membership: Path, root: Path) -> Iterator[_Limits]:
    """Yield the limits of the groups that hold this process, and of all groups above them."""
    for line in _read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            for group in _upwards(root, path):
                yield _Limits(_cpu_v2(group), _number(group / "memory.max"))
        if "memory" in controllers.split(","):
            for group in _upwards(root / "memory", path):
                yield _Limits(None, _number(group / "memory.limit_in_bytes"))
        if "cpu" in controllers.split(","):
            for group in _upwards(root / controllers, path):
                yield _Limits(_cpu_v1(group), None)


def _upwards(root: Path, path: str) -> Iterator[Path]:
    """Yield the group and those above it; inside a container the path may not exist, but its root does."""
    relative = Path(path.lstrip("/"))
    for part in (relative, *relative.parents):
        yield root / part


def _cpu_v2(group: Path) -> int | None:
    quota, _, period = _read(group / "cpu.max").strip().partition(" ")
    return _milli(quota, period)


def _cpu_v1(group: Path) -> int | None:
    return _milli(_read(group / "cpu.cfs_quota_us").strip(), _read(group / "cpu.cfs_period_us").strip())


def _milli(quota: str, period: str) -> int | None:
    """No limit is written as ``max`` in version 2 and as -1 in version 1."""
    return max(1, 1000 * int(quota) // int(period)) if quota.isdigit() and period.isdigit() and int(period) else None


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdigit() else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _detect_gpus() -> tuple[Gpu, ...]:
    """The devices that the driver knows, in its order, which is that of ``CUDA_VISIBLE_DEVICES``."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver, or no library of it
        return ()
    try:
        return tuple(_gpu(index) for index in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError:  # a driver that is being replaced, a device that fell off the bus
        return ()
    finally:
        pynvml.nvmlShutdown()


def _gpu(index: int) -> Gpu:
    device = pynvml.nvmlDeviceGetHandleByIndex(index)
    return Gpu(memory_mib=pynvml.nvmlDeviceGetMemoryInfo(device).total // MIB, model=pynvml.nvmlDeviceGetName(device))

"""What a machine has: limits of containers, what people say instead, GPUs as the driver lists them."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pynvml
import pytest

from rota.core.model import Gpu
from rota.worker.machine import (
    Machine,
    UsageSampler,
    detect_machine,
    offered_resources,
    parse_gpus,
    parse_resources,
)

FOUND = Machine(host="here", cpu_milli=2000, memory_mib=4000, gpus=())


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def detect(root: Path, files: dict[str, str]) -> Machine:
    write(root, files)
    return detect_machine(proc=root / "proc", cgroups=root / "cg")


def test_without_limits_the_machine_is_what_the_system_says(tmp_path: Path) -> None:
    machine = detect(tmp_path, {})
    assert machine.cpu_milli == 1000 * len(os.sched_getaffinity(0))
    assert machine.memory_mib == psutil.virtual_memory().total // (1 << 20)
    assert machine.host


def test_limits_of_a_cgroup_v2_count_as_the_size_of_the_machine(tmp_path: Path) -> None:
    machine = detect(
        tmp_path,
        {
            "proc/self/cgroup": "0::/system/rota\n",
            "cg/system/rota/cpu.max": "50000 100000\n",
            "cg/system/rota/memory.max": f"{300 << 20}\n",
        },
    )
    assert (machine.cpu_milli, machine.memory_mib) == (500, 300)


def test_a_limit_of_a_group_above_counts_too(tmp_path: Path) -> None:
    machine = detect(
        tmp_path,
        {
            "proc/self/cgroup": "0::/system/rota\n",
            "cg/system/rota/cpu.max": "max 100000\n",
            "cg/system/rota/memory.max": "max\n",
            "cg/system/memory.max": f"{200 << 20}\n",
        },
    )
    assert machine.memory_mib == 200
    assert machine.cpu_milli == 1000 * len(os.sched_getaffinity(0))


def test_limits_of_cgroups_v1_count_where_the_container_hides_the_path(tmp_path: Path) -> None:
    machine = detect(
        tmp_path,
        {
            "proc/self/cgroup": "9:name=systemd:/\n4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n",
            "cg/memory/memory.limit_in_bytes": f"{128 << 20}\n",
            "cg/cpu,cpuacct/cpu.cfs_quota_us": "25000\n",
            "cg/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    assert (machine.cpu_milli, machine.memory_mib) == (250, 128)


def test_no_quota_in_cgroups_v1_is_no_limit(tmp_path: Path) -> None:
    machine = detect(
        tmp_path,
        {
            "proc/self/cgroup": "2:cpu,cpuacct:/\n4:memory:/\n",
            "cg/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "cg/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "cg/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    assert machine.cpu_milli == 1000 * len(os.sched_getaffinity(0))
    assert machine.memory_mib == psutil.virtual_memory().total // (1 << 20)


def test_gpus_are_listed_as_the_driver_lists_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 2)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda device: SimpleNamespace(total=(device + 1) << 30))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda device: f"card {device}")
    assert detect(tmp_path, {}).gpus == (Gpu(1024, "card 0"), Gpu(2048, "card 1"))


def test_without_a_driver_there_are_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    assert detect(tmp_path, {}).gpus == ()


def test_what_people_say_replaces_what_was_found() -> None:
    offered = offered_resources(FOUND, {"cpu": 500, "disk": 7, "memory": 0}, max_tasks=None)
    assert offered == (("cpu", 500), ("disk", 7))


@pytest.mark.parametrize("max_tasks, cpu", [(None, 2000), (1, 2000), (8, 8000)])
def test_a_worker_for_many_tasks_offers_a_core_for_each(max_tasks: int | None, cpu: int) -> None:
    assert offered_resources(FOUND, None, max_tasks=max_tasks) == (("cpu", cpu), ("memory", 4000))


def test_cpu_that_was_said_holds_whatever_the_number_of_tasks() -> None:
    assert dict(offered_resources(FOUND, {"cpu": 1500}, max_tasks=8))["cpu"] == 1500


@pytest.mark.parametrize("text", ["cpu", "cpu=", "=3", "cpu=-1", "cpu=1.5", "cpu=x", "cpu=1=2", "cpu=9999999999999"])
def test_resources_that_cannot_be_read_are_quoted_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="cpu=4000,memory=8000"):
        parse_resources(text)


def test_a_resource_is_given_once() -> None:
    with pytest.raises(ValueError, match="cpu is given twice"):
        parse_resources("cpu=1,cpu=2")


@pytest.mark.parametrize("text", ["", "two", "-1", "1.5", "24576,x", ",", "1,,2"])
def test_gpus_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="gpus:"):
        parse_gpus(text)


def test_one_large_number_of_gpus_is_asked_back() -> None:
    with pytest.raises(ValueError, match="write 24576,"):
        parse_gpus("24576")


def test_usage_is_within_the_machine() -> None:
    usage = UsageSampler().sample()
    assert 0.0 <= usage.cpu_percent <= 100.0
    assert 0 < usage.memory_used_mib <= usage.memory_total_mib
    assert usage.load_1m >= 0.0

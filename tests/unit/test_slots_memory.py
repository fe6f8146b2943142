"""When memory is looked at, and what is made of the figures."""

from __future__ import annotations

import itertools

import pytest

from rota.worker.slots import memory
from rota.worker.slots.memory import FIRST_LOOK_S, LIMITED_PERIOD_S, PERIOD_S_MAX, MemoryWatch


@pytest.fixture
def tree(monkeypatch: pytest.MonkeyPatch) -> dict[int, tuple[int, int]]:
    """Processes by pid with (resident, proportional) KiB, and a clock that stands still."""
    sizes: dict[int, tuple[int, int]] = {}
    monkeypatch.setattr(memory, "descendants", lambda root: list(sizes))
    monkeypatch.setattr(memory, "resident_kib", lambda pid: sizes[pid][0])
    monkeypatch.setattr(memory, "proportional_kib", lambda pid: sizes[pid][1])
    monkeypatch.setattr("rota.worker.slots.memory.time.monotonic", lambda: 0.0)
    return sizes


def test_nothing_is_looked_at_before_its_time(tree: dict[int, tuple[int, int]]) -> None:
    tree[1] = (1 << 30, 1 << 30)
    watch = MemoryWatch(1, started=5.0)
    assert watch.look(5.0 + FIRST_LOOK_S / 2) is None
    assert watch.peak_kib == 0


def test_peak_is_the_highest_sum(tree: dict[int, tuple[int, int]]) -> None:
    watch = MemoryWatch(None, started=0.0)
    for sizes in ({1: 500, 2: 700}, {1: 100}):
        tree.clear()
        tree.update({pid: (kib, kib) for pid, kib in sizes.items()})
        watch.look(100.0)
    assert watch.peak_kib == 1200


def test_shared_pages_do_not_break_a_limit(tree: dict[int, tuple[int, int]]) -> None:
    tree.update({1: (800, 450), 2: (800, 450)})
    watch = MemoryWatch(1, started=0.0)
    assert watch.look(100.0) is None
    assert watch.peak_kib == 900


def test_over_the_limit_both_figures_are_told(tree: dict[int, tuple[int, int]]) -> None:
    tree[1] = (5 << 10, 3 << 10)
    message = MemoryWatch(2, started=0.0).look(100.0)
    assert message is not None
    assert "had 3 MiB" in message
    assert "limit is 2 MiB" in message


def test_a_process_whose_proportional_size_is_hidden_counts_in_full(tree: dict[int, tuple[int, int]]) -> None:
    tree[1] = (5 << 10, 0)
    assert MemoryWatch(2, started=0.0).look(100.0) is not None


def test_without_a_limit_looks_become_rare_and_with_one_they_do_not(tree: dict[int, tuple[int, int]]) -> None:
    free, limited = MemoryWatch(None, started=0.0), MemoryWatch(1, started=0.0)
    for _ in range(20):
        free.look(1e9)
        limited.look(1e9)
    assert free.next_look == PERIOD_S_MAX
    assert limited.next_look == LIMITED_PERIOD_S


def test_a_rise_of_the_kernels_count_is_seen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([3, 3, 4, 4])
    monkeypatch.setattr(memory, "_read_kernel_kills", lambda: next(counts))
    monkeypatch.setattr(memory._KernelKills, "read_at", float("-inf"))
    memory.watch_kernel(0.0)
    assert [memory.kernel_killed_for_memory() for _ in range(3)] == [False, True, False]


def test_the_kernels_count_is_not_read_at_every_start(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = itertools.count()
    monkeypatch.setattr(memory, "_read_kernel_kills", lambda: next(counts))
    monkeypatch.setattr(memory._KernelKills, "read_at", float("-inf"))
    for now in (0.0, 0.5, 0.9, 1.5):
        memory.watch_kernel(now)
    assert next(counts) == 2

"""Scenario files: what they may say, and what is said of one that may not."""

from __future__ import annotations

import pytest

from rota.core.errors import BadRequest
from rota.simulator.plan import read_plan


def test_scenario_has_workers_load_queues_and_faults() -> None:
    plan = read_plan(b"""
        seed: 7
        ordering: fair
        workers:
          - {count: 20, cpu: 8000, tags: [ssd]}
          - {name: gpu, gpus: [24000, 24000], speed: 0.5, starts_at: 60}
        load:
          - {arrivals: bursty, mix: cpu, rate: 3, duration: 600, queue: batch}
          - {trace: jobs.csv, time_scale: 0.5}
        queues: {batch: {weight: 3, max_running: 100}}
        limits: {licence: 4}
        faults:
          - {kind: crash, at: 100, for: 30, worker: w3}
          - {kind: partition, every: 300}
    """)
    assert [worker.count for worker in plan.workers] == [20, 1]
    assert plan.workers[1].gpus == [24000, 24000]
    assert plan.queues["batch"].weight == 3
    assert [(fault.kind, fault.lasts) for fault in plan.faults] == [("crash", 30), ("partition", 30)]


@pytest.mark.parametrize(
    "text,says",
    [
        (b"worker: []", "unknown field `worker`"),
        (b"workers: [{cpus: 3}]", "unknown field `cpus`"),
        (b"workers: 3", "Expected `array`"),
        (b"workers: [{count: 0}]", r"workers: there are 0: it must be 1 to 100,000"),
        (b"workers: [{count: -1}]", r"workers\[0\]\.count is -1"),
        (b"workers: [{cpu: -1}]", r"workers\[0\]\.cpu is -1"),
        (b"workers: [{speed: 0}]", r"workers\[0\]\.speed is 0"),
        (b"workers: [{speed: .nan}]", r"workers\[0\]\.speed is nan"),
        (b"ordering: fifo", "ordering: there is no 'fifo'"),
        (b"load: [{rate: 1}]", r"load\[0\]: give two of rate, tasks and duration, not rate"),
        (b"load: [{}]", r"load\[0\]: give two of rate, tasks and duration, not none"),
        (b"load: [{rate: -1, tasks: 3}]", r"load\[0\]\.rate is -1"),
        (b"load: [{rate: 1, tasks: 3, mean_duration: -3}]", r"load\[0\]\.mean_duration is -3"),
        (b"faults: [{kind: crush, at: 3}]", r"faults\[0\]\.kind: there is no 'crush'; did you mean 'crash'"),
        (b"faults: [{kind: crash}]", r"faults\[0\]: say when: give one of at and every"),
        (b"faults: [{kind: crash, at: 1, every: 1}]", r"faults\[0\]: say when"),
        (b"faults: [{kind: crash, at: -1}]", r"faults\[0\]\.at is -1"),
        (b"queues: {a: {weight: -1}}", "queues: a: weight is -1"),
        (b"queues: {a: {wait: 1}}", "unknown field `wait`"),
        (b"limits: {a: -1}", "limits: a is -1"),
        (b"until: 0", "until is 0"),
        (b"seed: x", "Expected `int`"),
        (b"{", "is no YAML"),
        (b"\xff\xfe\x00", "is no YAML"),
    ],
)
def test_mistake_in_a_scenario_is_named(text: bytes, says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        read_plan(text)

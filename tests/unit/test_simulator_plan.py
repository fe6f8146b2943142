"""Scenario files: what they may say, and what is said of one that may not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from rota.core.errors import BadRequest
from rota.core.placement.policies import POLICIES
from rota.simulator.scenarios import FAULT_KINDS, check_policies, read_plan
from tests.support.house import ROOT

PAGE: Final = ROOT / "docs" / "simulation.md"


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
          - {kind: delayed-messages, at: 0, worker: gpu*, part: 0.5, delay: 0.2}
          - {kind: coordinator-crash, commit: 12}
    """)
    assert [worker.count for worker in plan.workers] == [20, 1]
    assert plan.workers[1].gpus == [24000, 24000]
    assert plan.queues["batch"].weight == 3
    assert [(fault.kind, fault.lasts) for fault in plan.faults] == [
        ("crash", 30),
        ("partition", 30),
        ("delayed-messages", 30),
        ("coordinator-crash", 30),
    ]
    assert (plan.faults[2].part, plan.faults[2].delay, plan.faults[3].commit) == (0.5, 0.2, 12)


@pytest.mark.parametrize(
    "text,says",
    [
        (b"worker: []", "there is no field 'worker'; did you mean 'workers'"),
        (b"workers: [{cpus: 3}]", r"workers\[0\]: there is no field 'cpus'; did you mean 'cpu'"),
        (b"workers: 3", "workers: there must be a list, not a whole number"),
        (b"workers: [{count: fifty}]", r"workers\[0\]\.count: there must be a whole number, not text"),
        (b"workers: [{memory: 16G}]", r"workers\[0\]\.memory: there must be a whole number \(MiB\), not text"),
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
        (b"", "there must be fields with values, not nothing"),
        (b"load: []", "load: nothing comes"),
        (b"load: [{rate: 1, tasks: 300000000}]", r"load\[0\]\.tasks is 300,000,000: it must be 1 to 100,000,000"),
        (b"load: [{rate: 1, tasks: 3, timeout: -1}]", r"load\[0\]\.timeout: is -1 seconds"),
        (b"load: [{rate: 1, tasks: 3, retries: -1}]", r"load\[0\]\.retries: is -1"),
        (b"load: [{rate: 1, tasks: 3, queue: 'a b'}]", r"load\[0\]\.queue: must be 1 to 100 letters"),
        (b"load: [{rate: 1, tasks: 3, tags: ['a b']}]", r"load\[0\]\.tags: 'a b'"),
        (b"load: [{rate: 1, tasks: 3, limits: {x: -1}}]", r"load\[0\]\.limits: x is -1"),
        (b"load: [{rate: 1, tasks: 3, resources: {cpu: -1}}]", r"load\[0\]\.resources: cpu is -1"),
        (b"load: [{rate: 1, tasks: 3, resources: {'c p': 1}}]", r"load\[0\]\.resources: 'c p' can't be the name"),
        (b"load: [{rate: 1, tasks: 3, resources: {cpu: 99999999999999999999}}]", r"load\[0\]: has a number"),
        (b"load: [{rate: 1, tasks: 3, priority: urgent}]", r"load\[0\]\.priority: 'urgent' is not one of low"),
        (b"load: [{rate: 1, tasks: 3, time_scale: 2}]", r"load\[0\]\.time_scale: goes with a trace"),
        (b"load: [{trace: a.csv, mix: cpu}]", r"load\[0\]\.mix: goes without a trace"),
        (b"load: [{trace: a.csv, tasks: 0}]", r"load\[0\]\.tasks is 0"),
        (b"faults: [{kind: crash, at: 3, speed: 2}]", r"faults\[0\]\.speed: goes with slow, not with crash"),
        (b"faults: [{kind: lost-messages, at: 3, part: 1.5}]", r"faults\[0\]\.part is 1.5: it must be 0 to 1"),
        (b"faults: [{kind: delayed-messages, at: 3, delay: -1}]", r"faults\[0\]\.delay is -1: it must be 0 to"),
        (b"faults: [{kind: lost-messages, at: 3, delay: 1}]", r"delay: goes with delayed-messages, not with lost"),
        (b"faults: [{kind: crash, commit: 1}]", r"faults\[0\]\.commit: goes with coordinator-crash, not with crash"),
        (b"faults: [{kind: coordinator-crash, commit: 0}]", r"faults\[0\]\.commit is 0: it must be 1 to"),
        (b"faults: [{kind: store-full, at: 3, worker: w1}]", r"faults\[0\]\.worker: goes with crash,"),
        (b"faults: [{kind: crush, at: 3}]", r"faults\[0\]\.kind: there is no 'crush'; did you mean 'crash'"),
        (b"faults: [{kind: crash}]", r"faults\[0\]: say when: give one of at and every"),
        (b"faults: [{kind: crash, at: 1, every: 1}]", r"give one of at and every, not both"),
        (b"faults: [{kind: crash, at: -1}]", r"faults\[0\]\.at is -1"),
        (b"queues: {a: {weight: -1}}", "queues: a: weight is -1"),
        (b"queues: {a: {wait: 1}}", "there is no field 'wait'"),
        (b"queues: {a b: {weight: 1}}", "queues: 'a b' is no name for one"),
        (b"limits: {a b: 1}", "limits: 'a b' can't be the name of a limit"),
        (b"limits: {a: -1}", "limits: a is -1"),
        (b"until: 0", "until is 0"),
        (b"seed: x", "seed: there must be a whole number, not text"),
        (b"{", "is no YAML"),
        (b"\xff\xfe\x00", "is no YAML"),
    ],
)
def test_mistake_in_a_scenario_is_named(text: bytes, says: str) -> None:
    if text and not text.startswith((b"load", b"{", b"\xff")):
        text += b"\nload: [{rate: 1, tasks: 3}]"
    with pytest.raises(BadRequest, match=says):
        read_plan(text)


@pytest.mark.parametrize(
    "text,says",
    [
        (b"placement: binpak", "placement: there is no policy 'binpak'; did you mean `binpack`"),
        (b"queues: {a: {placement: x}}", "queues: a: placement: there is no policy 'x'"),
        (b"load: [{rate: 1, tasks: 3, placement: x}]", r"load\[0\]\.placement: there is no policy 'x'"),
    ],
)
def test_policy_that_there_is_not_is_named_wherever_it_stands(text: bytes, says: str) -> None:
    text = text if text.startswith(b"load") else text + b"\nload: [{rate: 1, tasks: 3}]"
    with pytest.raises(BadRequest, match=says):
        check_policies(read_plan(text), POLICIES)


def test_page_shows_a_scenario_that_can_be_read_and_names_every_fault_with_its_fields() -> None:
    [example] = re.findall(r"```yaml\n(.+?)```", PAGE.read_text(), re.S)
    assert read_plan(example.encode()).faults
    rows = re.findall(r"^\| `([\w-]+)` \| [^|]+ \|([^|]*)\|$", PAGE.read_text().partition("### Faults")[2], re.M)
    assert {kind: tuple(re.findall(r"`(\w+)`", besides)) for kind, besides in rows} == FAULT_KINDS


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "scenarios").glob("*.yaml")), ids=lambda path: path.name)
def test_examples_can_be_read(path: Path) -> None:
    assert read_plan(path.read_bytes()).load

"""Scheduler and real agents under chance: commands, channels and slots in any order, and the state always whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rota.core.commands import Command, ObserverStalled, ReportArrived, SessionId, Tick
from rota.core.config import SchedulerConfig
from rota.core.effects import Effect
from rota.core.model import ENDED_STATES, Cause, TaskSeq
from rota.core.ordering import ORDERINGS
from tests.support.cluster import Site
from tests.support.core import Core, drafts_of, messages
from tests.support.equivalence import assert_equivalent

CONFIG: Final = SchedulerConfig(
    heartbeat_s=1.0,
    suspicious_after_s=3.0,
    offline_after_s=6.0,
    grace_s=5.0,
    blackout_s=10.0,
    impossible_after_s=30.0,
    forget_after_s=200.0,
)

SHAPES: Final[tuple[dict[str, Any], ...]] = (
    {"resources": {"cpu": 1000}},
    {"resources": {"cpu": 500, "memory": 100}},
    {"resources": {"cpu": 4000}},
    {"resources": {"cpu": 500}, "tags": ["ssd"]},
    {"resources": {"gpu": 1, "cpu": 100}},
    {"resources": {"gpu_memory": 3000, "cpu": 100}},
    {"resources": {"cpu": 64_000}},  # more than anybody has
)

EXTRAS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {},
    {"retries": 2, "backoff": {"base": 1, "max": 8}},
    {"losses": 0},
    {"exclusive": True},
    {"exclusive": True, "retries": 1, "backoff": 0},
    {"delay": 4},
    {"deadline": 20},
    {"priority": "high"},
    {"priority": "low", "retries": 1, "backoff": 0},
    {"queue": "urgent", "priority": "critical"},
    {"queue": "batch", "timeout": 3},
    {"limits": {"licence": 1}},
    {"limits": {"licence": 2, "disk": 1}, "queue": "batch"},
    {"labels": {"reservation": "kept"}},
    {"placement": "spread", "name": "job"},
    {"placement": "consistent-hash", "affinity": "key"},
    {"tags": ["!ssd"], "placement": "binpack"},
    {"tags": ["ssd~"], "placement": "round-robin"},
)

QUEUE_SETTINGS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"paused": True},
    {"max_running": 1},
    {"max_resources": {"cpu": 2000}},
    {"weight": 3.0, "ordering": "fcfs"},
    {"preempts_by": 20},
    {"placement": "first-fit"},
)

SITES: Final = st.integers(0, 2)
CAUSES: Final = st.sampled_from([None, None, None, Cause.EXIT, Cause.SIGNAL, Cause.AGENT_ERROR, Cause.PREEMPTED])


class ClusterMachine(RuleBasedStateMachine):
    """Three machines, one coordinator, and whatever can happen to them."""

    @initialize(ordering=st.sampled_from(sorted(ORDERINGS)), ageing=st.sampled_from([0.0, 600.0]))
    def begin(self, *, ordering: str, ageing: float) -> None:
        self.core = Core(config=replace(CONFIG, ordering=ordering, ageing=ageing))
        self.sites = [
            Site("w1", clock=lambda: self.core.now, cpu=4000),
            Site("w2", clock=lambda: self.core.now, cpu=2000, tags=["ssd"]),
            Site("w3", clock=lambda: self.core.now, cpu=1000, gpus=[4000, 8000], max_tasks=3),
        ]
        self.sessions = 1000
        self.seqs: list[TaskSeq] = []
        self.chosen = 0
        self.has_jumped = False
        self.retried: dict[TaskSeq, Any] = {}

    # Users

    @rule(
        shape=st.sampled_from(SHAPES), extra=st.sampled_from(EXTRAS), count=st.integers(1, 6), is_chosen=st.booleans()
    )
    def submit(self, *, shape: dict[str, Any], extra: dict[str, Any], count: int, is_chosen: bool) -> None:
        fields = {**shape, **extra}
        if is_chosen and count == 1:
            self.chosen += 1
            fields["id"] = f"mine-{self.chosen}"
        before = len(self.core.record.facts)
        self.step_effects(self.core.submit_drafts(drafts_of(count, self.core.wall, **fields)))
        self.seqs += sorted(self.core.record.facts)[before:]

    @rule(
        shapes=st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3),
        extra=st.sampled_from(EXTRAS),
        name=st.sampled_from(["a", "b"]),
        size=st.integers(1, 3),
    )
    def submit_members(self, *, shapes: list[dict[str, Any]], extra: dict[str, Any], name: str, size: int) -> None:
        """Some members of a gang, perhaps too few, too many, or of another size."""
        fields = {**extra, "gang": {"id": name, "size": size}}
        before = len(self.core.record.facts)
        self.step_effects(self.core.submit_drafts_of([{**shape, **fields} for shape in shapes]))
        self.seqs += sorted(self.core.record.facts)[before:]

    @precondition(lambda self: self.seqs)
    @rule(data=st.data())
    def cancel(self, *, data: st.DataObject) -> None:
        picked = data.draw(st.lists(st.sampled_from(self.seqs), min_size=1, max_size=3))
        self.step_effects(self.core.cancel(*picked))

    @precondition(lambda self: self.seqs)
    @rule(data=st.data(), twice=st.booleans())
    def retry(self, *, data: st.DataObject, twice: bool) -> None:
        seq = data.draw(st.sampled_from(self.seqs))
        command = self.core.retry_command(seq)
        self.retried[seq] = command
        self.step(*[command] * (1 + twice))

    @precondition(lambda self: self.retried)
    @rule(data=st.data())
    def retry_with_an_old_record(self, *, data: st.DataObject) -> None:
        self.step(self.retried[data.draw(st.sampled_from(sorted(self.retried)))])

    @rule(site=SITES, drained=st.booleans())
    def drain(self, *, site: int, drained: bool) -> None:
        self.step_effects(self.core.set_drained(self.sites[site].name, drained=drained))

    # Operators

    @rule(name=st.sampled_from(["default", "batch", "urgent"]), settings=st.sampled_from(QUEUE_SETTINGS))
    def set_queue(self, *, name: str, settings: dict[str, Any]) -> None:
        self.step_effects(self.core.set_queue(name, **settings))

    @rule(name=st.sampled_from(["licence", "disk"]), size=st.sampled_from([None, 0, 1, 2, 5]))
    def set_limit(self, *, name: str, size: int | None) -> None:
        self.step_effects(self.core.set_limit(name, size))

    @rule(
        starts_in_s=st.sampled_from([0.0, 5.0]),
        lasts_s=st.sampled_from([2.0, 30.0]),
        cpu=st.sampled_from([500, 2000]),
        queue=st.sampled_from([None, "batch"]),
        workers=st.sampled_from([None, 1]),
    )
    def reserve(self, *, starts_in_s: float, lasts_s: float, cpu: int, queue: str | None, workers: int | None) -> None:
        fields = {"resources": {"cpu": cpu}, "queue": queue, "workers": workers}
        self.step_effects(self.core.reserve("kept", starts_in_s=starts_in_s, lasts_s=lasts_s, **fields))

    @rule()
    def end_reservation(self) -> None:
        self.step_effects(self.core.end_reservation("kept"))

    # Channels

    @rule(site=SITES)
    def connect(self, *, site: int) -> None:
        self.sessions += 1
        self.sites[site].connect(SessionId(self.sessions), self.core.wall)

    @rule(site=SITES, is_noticed=st.booleans())
    def cut(self, *, site: int, is_noticed: bool) -> None:
        closed = self.sites[site].hang_up()
        if closed is not None and is_noticed:
            self.step(closed)

    @rule(site=SITES, count=st.integers(1, 5))
    def deliver_up(self, *, site: int, count: int) -> None:
        self.step(*self.sites[site].take_up(count))

    @rule(site=SITES, count=st.integers(1, 5))
    def deliver_down(self, *, site: int, count: int) -> None:
        self.sites[site].take_down(count)

    @rule()
    def deliver_all(self) -> None:
        self.exchange()

    @rule(site=SITES, data=st.data())
    def hear_an_old_report_again(self, *, site: int, data: st.DataObject) -> None:
        """On the channel of any worker, also of one that never sent it."""
        heard = [report for each in self.sites for report in each.heard]
        channel = self.sites[site].channel
        if heard and channel is not None and channel.session in self.core.state.cluster.sessions:
            report = data.draw(st.sampled_from(heard))
            # The agent here must not take the acknowledgement for that of a report of its own.
            effects = self.core.do(ReportArrived(channel.session, report))
            self.step_effects([effect for effect in effects if not messages([effect], object)])

    # Machines

    @rule(site=SITES)
    def start_heads(self, *, site: int) -> None:
        self.sites[site].start_heads(self.core.wall)

    @rule(site=SITES, cause=CAUSES, data=st.data(), run_s=st.sampled_from([0.01, 0.04, 5.0]))
    def end_one(self, *, site: int, cause: Cause | None, data: st.DataObject, run_s: float) -> None:
        running = sorted(self.sites[site].running)
        if running:
            key = data.draw(st.sampled_from(running))
            self.sites[site].end(key, cause, wall=self.core.wall, run_s=run_s)

    @rule(site=SITES)
    def start_anew(self, *, site: int) -> None:
        closed = self.sites[site].hang_up()
        self.sites[site].start_anew()
        if closed is not None:
            self.step(closed)

    @rule(site=SITES, is_hurried=st.booleans())
    def leave(self, *, site: int, is_hurried: bool) -> None:
        self.sites[site].leave()
        if is_hurried:
            self.sites[site].hurry()

    @rule(site=SITES)
    def beat(self, *, site: int) -> None:
        self.sites[site].beat(self.core.wall)

    # Time

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.0, 2.5, 7.0, 40.0]))
    def pass_time(self, *, seconds: float) -> None:
        self.step_effects(self.core.pass_time(seconds))

    @rule(seconds=st.sampled_from([-3600.0, 3600.0]))
    def jump_wall(self, *, seconds: float) -> None:
        self.core.jump_wall(seconds)
        self.has_jumped = True
        self.step(Tick())

    @rule(lag_s=st.sampled_from([1.0, 30.0]))
    def stall(self, *, lag_s: float) -> None:
        self.core.now += lag_s
        self.step(ObserverStalled(lag_s))

    @rule(after_s=st.sampled_from([0.0, 2.0]))
    def restart_coordinator(self, *, after_s: float) -> None:
        for site in self.sites:
            site.hang_up()
        self.core = self.core.restarted(after_s=after_s)
        self.step(Tick())

    # What always holds

    @invariant()
    def restart_would_find_the_same(self) -> None:
        if hasattr(self, "core"):
            assert_equivalent(self.core, self.core.restarted(), clocks_agree=not self.has_jumped)

    @invariant()
    def nothing_ran_twice(self) -> None:
        if hasattr(self, "core"):
            ran = [key for site in self.sites for key in site.ran]
            assert len(ran) == len(set(ran))

    def teardown(self) -> None:
        """In the end, when everybody is back and finishes what they have, every task ends."""
        if not hasattr(self, "core"):
            return
        for site in self.sites:
            if site.agent.is_leaving:
                site.hang_up()
                site.start_anew()
            self.sessions += 1
            site.connect(SessionId(self.sessions), self.core.wall)
            self.exchange()
            self.step_effects(self.core.set_drained(site.name, drained=False))
        for name in ("default", "batch", "urgent"):
            self.step_effects(self.core.set_queue(name))
        for name in ("licence", "disk"):
            self.step_effects(self.core.set_limit(name, 50))
        self.step_effects(self.core.end_reservation("kept"))
        gangs = self.core.state.gangs.by_name.values()
        too_few = [seq for gang in gangs if not gang.is_whole and not gang.active for seq in gang.members]
        self.step_effects(self.core.cancel(*too_few))
        for _ in range(200):
            if self.all_ended():
                break
            self.work_off()
        assert self.all_ended(), {seq: self.core.progress(seq) for seq in self.core.state.tasks}
        for site in self.sites:
            assert not site.running
            assert not site.lines

    # Helpers

    def all_ended(self) -> bool:
        return not self.core.state.tasks and all(self.core.progress(seq).state in ENDED_STATES for seq in self.seqs)

    def work_off(self) -> None:
        """Let a second go by in which everybody beats, starts, and ends well."""
        for site in self.sites:
            if site.channel is None:
                self.sessions += 1
                site.connect(SessionId(self.sessions), self.core.wall)
            site.start_heads(self.core.wall)
            for key in list(site.running):
                site.end(key, None, wall=self.core.wall)
            site.beat(self.core.wall)
        self.exchange()
        self.step_effects(self.core.pass_time(1.0))
        self.exchange()

    def exchange(self) -> None:
        """Deliver until nothing is on its way."""
        for _ in range(100):
            commands = [command for site in self.sites for command in site.take_up(1000)]
            for site in self.sites:
                site.take_down(1000)
            if not commands and not any(site.channel and (site.channel.up or site.channel.down) for site in self.sites):
                return
            self.step(*commands)
        raise AssertionError("they talk for ever")

    def step(self, *commands: Command) -> None:
        self.step_effects(self.core.do(*commands))

    def step_effects(self, effects: Sequence[Effect]) -> None:
        for site in self.sites:
            site.take_effects(effects)


TestCluster = ClusterMachine.TestCase
TestCluster.settings = settings(max_examples=150, stateful_step_count=50)

"""Slots that pretend: lanes run one attempt at a time, for as long and to the end that its work has.

Everything else is as with real slots: the line starts in order, a stop may take its grace, what has not started
can be taken back, news is told in batches, and a quick attempt is never told as started.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from msgspec import Struct, field

from rota.core.model import AttemptKey, Cause, LaneId, Offer, Resources
from rota.core.protocol import Assignment, Ended, Started
from rota.core.resources import split_need
from rota.core.spec import decode_spec, resources_of
from rota.simulator.chores import Chore, Chores
from rota.simulator.watch import Watch
from rota.simulator.world import Planned, World

__all__ = ["Slots"]

OUTPUT: Final = b"said"
STARTED_AFTER_S: Final = 0.02
"""What ends sooner is told of once, by its end."""


class _Running(Struct, eq=False):
    """An attempt that runs. ``is_stopping`` once it was told to end."""

    key: AttemptKey
    started: float
    will_end: Planned
    is_stopping: bool = False


class _Lane(Struct, eq=False):
    """``line`` holds those that wait, each with what it will do: most often nobody, and never many."""

    needs: Resources
    devices: tuple[int, ...]
    line: list[tuple[Assignment, Chore]] = field(default_factory=list)
    running: _Running | None = None


class Slots:
    """All lanes of one agent process. ``tell`` gets started and ended attempts, once for each batch.

    ``speed`` is 1 for a machine that is as fast as it should be.
    """

    __slots__ = (
        "_chores",
        "_ended",
        "_instance",
        "_is_dead",
        "_lane_of",
        "_lanes",
        "_offer",
        "_started",
        "_tell",
        "_telling",
        "_wall",
        "_watch",
        "_worker",
        "_world",
        "speed",
    )

    def __init__(
        self,
        world: World,
        watch: Watch,
        *,
        worker: str,
        instance: str,
        offer: Offer,
        chores: Chores,
        wall: Callable[[], float],
        tell: Callable[[list[Started], list[Ended]], None],
    ) -> None:
        self._world = world
        self._watch = watch
        self._worker = worker
        self._instance = instance
        self._offer = offer
        self.speed = 1.0
        self._chores = chores
        self._wall = wall
        self._tell = tell
        self._lanes: dict[LaneId, _Lane] = {}
        self._lane_of: dict[AttemptKey, LaneId] = {}
        self._started: list[Started] = []
        self._ended: list[Ended] = []
        self._telling: Planned | None = None
        self._is_dead = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing runs or waits."""
        return not self._lane_of

    def run(self, attempts: Sequence[Assignment]) -> None:
        """Let attempts stand in the lines of their lanes."""
        for given in attempts:
            lane = self._lanes.get(given.lane)
            if lane is None:
                lane = self._lanes[given.lane] = _Lane(_needs(given.spec), given.devices)
            if self._watch.is_strict:
                self._check(given, lane)
            lane.line.append((given, self._chores.chore_of(given)))
            self._lane_of[given.task, given.attempt] = given.lane
            if lane.running is None:
                self._start_next(given.lane, lane)

    def stop(self, key: AttemptKey, cause: Cause, grace_s: float) -> None:
        """End an attempt: at once if it waits, within the grace if it runs."""
        lane_id = self._lane_of.get(key)
        if lane_id is None:
            return
        running = self._lanes[lane_id].running
        if running is None or running.key != key:
            self._end_waiting(key, cause)
        elif not running.is_stopping:
            running.is_stopping = True
            running.will_end.cancel()
            takes_s = self._world.between(0.0, grace_s + 0.05)
            running.will_end = self._world.after(takes_s, lambda: self._end_running(lane_id, cause))

    def take_back(self, keys: Sequence[AttemptKey]) -> None:
        """Hand back what has not started."""
        for key in keys:
            lane_id = self._lane_of.get(key)
            running = None if lane_id is None else self._lanes[lane_id].running
            if lane_id is not None and (running is None or running.key != key):
                self._end_waiting(key, Cause.RETURNED)

    def break_one(self) -> bool:
        """Kill the process of a lane that runs something: whether there was one."""
        lanes = [lane_id for lane_id, lane in self._lanes.items() if lane.running is not None]
        if not lanes:
            return False
        lane_id = self._world.rng.choice(lanes)
        lane = self._lanes[lane_id]
        self.take_back([(given.task, given.attempt) for given, _ in lane.line])
        assert lane.running is not None
        lane.running.will_end.cancel()
        self._end_running(lane_id, Cause.AGENT_ERROR)
        return True

    def stuck_lines(self, *, for_s: float) -> list[AttemptKey]:
        """What runs for so long already and still has others waiting behind it."""
        long_ago = self._world.now - for_s
        return [
            lane.running.key
            for lane in self._lanes.values()
            if lane.running is not None and lane.running.started < long_ago and lane.line
        ]

    def kill(self) -> None:
        """The agent's process is gone, and with it all that ran under it."""
        self._is_dead = True
        for lane in self._lanes.values():
            if lane.running is not None:
                lane.running.will_end.cancel()

    # Helpers

    def _start_next(self, lane_id: LaneId, lane: _Lane) -> None:
        if not lane.line:
            del self._lanes[lane_id]
            return
        given, chore = lane.line.pop(0)
        self._watch.attempt_started(self._worker, self._instance, given)
        run_s, cause = chore.at_speed(self.speed)
        event = self._world.after(run_s, lambda: self._end_running(lane_id, cause))
        lane.running = running = _Running((given.task, given.attempt), self._world.now, event)
        if run_s > STARTED_AFTER_S:
            self._world.after(STARTED_AFTER_S, lambda: self._tell_start(lane_id, running))

    def _tell_start(self, lane_id: LaneId, running: _Running) -> None:
        lane = self._lanes.get(lane_id)
        if lane is not None and lane.running is running and not self._is_dead:
            started_s = self._wall() - (self._world.now - running.started)
            self._started.append(Started(*running.key, started_s))
            self._tell_soon()

    def _end_running(self, lane_id: LaneId, cause: Cause | None) -> None:
        lane = self._lanes[lane_id]
        running = lane.running
        assert running is not None
        self._watch.attempt_ended(self._worker, running.key, cause)
        run_s = self._world.now - running.started
        ended_at = self._wall()
        del self._lane_of[running.key]
        task, attempt = running.key
        self._ended.append(
            Ended(task, attempt, cause, started_at=ended_at - run_s, ended_at=ended_at, run_s=run_s, stdout=OUTPUT)
        )
        lane.running = None
        self._tell_soon()
        self._start_next(lane_id, lane)

    def _end_waiting(self, key: AttemptKey, cause: Cause) -> None:
        lane = self._lanes[self._lane_of.pop(key)]
        lane.line = [entry for entry in lane.line if (entry[0].task, entry[0].attempt) != key]
        self._ended.append(Ended(*key, cause, ended_at=self._wall()))
        self._tell_soon()

    def _tell_soon(self) -> None:
        if self._telling is None:
            self._telling = self._world.after(self._world.draw(self._world.pace.tell_s), self._tell_now)

    def _tell_now(self) -> None:
        self._telling = None
        started, ended = self._started, self._ended
        self._started, self._ended = [], []
        if not self._is_dead:
            self._tell(started, ended)

    def _check(self, given: Assignment, lane: _Lane) -> None:
        """A lane has one shape, and its machine can run it."""
        assert (lane.needs, lane.devices) == (_needs(given.spec), given.devices), f"{given.id} is none of its lane's"
        assert _tags(given.spec) <= self._offer.tags, f"{self._worker} can't run {given.id}"
        if lane.running is not None:
            self._watch.count("attempts put into a line")
        self._check_room()

    def _check_room(self) -> None:
        """What lanes hold here is never more than the machine has, whatever the coordinator thinks."""
        lanes = list(self._lanes.values())
        assert len(lanes) <= self._offer.max_tasks, f"{self._worker} has {len(lanes)} lanes"
        used: dict[str, int] = {}
        cards: list[int] = []
        for lane in lanes:
            plain, whole_cards, _ = split_need(lane.needs)
            cards += lane.devices if whole_cards else ()
            for name, amount in plain:
                used[name] = used.get(name, 0) + amount
        for name, amount in used.items():
            assert amount <= dict(self._offer.resources).get(name, 0), f"{self._worker} has lanes for {name} {amount}"
        assert len(cards) == len(set(cards)), f"a card of {self._worker} has two tenants: {cards}"


@lru_cache(maxsize=256)
def _needs(spec: bytes) -> Resources:
    return resources_of(decode_spec(spec))


@lru_cache(maxsize=256)
def _tags(spec: bytes) -> frozenset[str]:
    return frozenset(decode_spec(spec).tags)

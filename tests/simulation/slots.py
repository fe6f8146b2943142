"""Slots that pretend: lanes run one attempt at a time, for a time and to an end that are drawn.

What a task does is in its name: how long it takes and how it may end. Everything else is as with real
slots: the line starts in order, a stop may take its grace, what has not started can be taken
back, news is told in batches, and a quick attempt is never told as started.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, Protocol

from rota.core.model import AttemptKey, Cause, LaneId, Offer, Resources
from rota.core.protocol import Assignment, Ended, Started
from rota.core.resources import split_need
from rota.core.spec import decode_spec, resources_of
from tests.simulation.world import Event, World

__all__ = ["ENDLESS", "RUN_S", "SlotWatch", "Slots"]

RUN_S: Final[dict[str, tuple[float, float]]] = {
    "quick": (0.001, 0.02),
    "short": (0.005, 0.08),
    "long": (0.5, 6.0),
    "mixed": (0.002, 5.0),
    "flaky": (0.005, 0.5),
    "trap": (0.001, 0.02),
    "endless": (1e6, 1e6),
}
"""How long a task takes, by its name. Some are short enough for lines; a few traps never end."""

ENDLESS: Final = frozenset({"trap", "endless"})
TRAP_PART: Final = 0.1

FAILURES: Final = (Cause.EXIT, Cause.SIGNAL, Cause.TIMEOUT, Cause.OOM)
FLAKY_PART: Final = 0.5
STARTED_AFTER_S: Final = 0.02
TELL_S: Final = (0.0001, 0.005)


class SlotWatch(Protocol):
    """Who sees everything that really runs, whether it is ever told or not."""

    def count(self, what: str) -> None: ...

    def attempt_started(self, worker: str, instance: str, given: Assignment) -> None: ...

    def attempt_ended(self, worker: str, key: AttemptKey, cause: Cause | None) -> None: ...


class _Running:
    """An attempt that runs. ``is_stopping`` once it was told to end."""

    def __init__(self, given: Assignment, started: float, will_end: Event) -> None:
        self.key: AttemptKey = (given.task, given.attempt)
        self.started = started
        self.will_end = will_end
        self.is_stopping = False


class _Lane:
    def __init__(self) -> None:
        self.line: deque[Assignment] = deque()
        self.running: _Running | None = None
        self.needs: Resources = ()
        self.devices: tuple[int, ...] = ()


class Slots:
    """All lanes of one agent process. ``tell`` gets started and ended attempts, once for each batch."""

    def __init__(
        self,
        world: World,
        watch: SlotWatch,
        *,
        worker: str,
        instance: str,
        offer: Offer,
        wall: Callable[[], float],
        tell: Callable[[list[Started], list[Ended]], None],
    ) -> None:
        self._world = world
        self._watch = watch
        self._worker = worker
        self._instance = instance
        self._offer = offer
        self._wall = wall
        self._tell = tell
        self._lanes: dict[LaneId, _Lane] = {}
        self._lane_of: dict[AttemptKey, LaneId] = {}
        self._started: list[Started] = []
        self._ended: list[Ended] = []
        self._telling: Event | None = None
        self._is_dead = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing runs or waits."""
        return not self._lane_of

    def run(self, attempts: Sequence[Assignment]) -> None:
        """Let attempts stand in the lines of their lanes."""
        for given in attempts:
            lane = self._lanes.setdefault(given.lane, _Lane())
            needs = _needs(given.spec)
            assert not lane.needs or (lane.needs, lane.devices) == (needs, given.devices), "a lane has one shape"
            assert _tags(given.spec) <= self._offer.tags, f"{self._worker} can't run {given.id}"
            lane.needs, lane.devices = needs, given.devices
            if lane.running is not None:
                self._watch.count("attempts put into a line")
            lane.line.append(given)
            self._lane_of[given.task, given.attempt] = given.lane
            self._check_room()
            self._start_next(given.lane)

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
        self.take_back([(given.task, given.attempt) for given in lane.line])
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

    def _start_next(self, lane_id: LaneId) -> None:
        lane = self._lanes[lane_id]
        if lane.running is not None:
            return
        if not lane.line:
            del self._lanes[lane_id]
            return
        given = lane.line.popleft()
        self._watch.attempt_started(self._worker, self._instance, given)
        run_s, cause = self._draw(given)
        event = self._world.after(run_s, lambda: self._end_running(lane_id, cause))
        lane.running = running = _Running(given, self._world.now, event)
        self._world.after(STARTED_AFTER_S, lambda: self._tell_start(lane_id, running))

    def _draw(self, given: Assignment) -> tuple[float, Cause | None]:
        name = decode_spec(given.spec).name
        assert name is not None
        if name == "trap" and self._world.chance(TRAP_PART):
            name = "endless"
        fails = name == "flaky" and self._world.chance(FLAKY_PART)
        return self._world.between(*RUN_S[name]), self._world.rng.choice(FAILURES) if fails else None

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
        self._ended.append(
            Ended(*running.key, cause, started_at=ended_at - run_s, ended_at=ended_at, run_s=run_s, stdout=b"said")
        )
        lane.running = None
        self._tell_soon()
        self._start_next(lane_id)

    def _end_waiting(self, key: AttemptKey, cause: Cause) -> None:
        lane = self._lanes[self._lane_of.pop(key)]
        lane.line = deque(given for given in lane.line if (given.task, given.attempt) != key)
        self._ended.append(Ended(*key, cause, ended_at=self._wall()))
        self._tell_soon()

    def _tell_soon(self) -> None:
        if self._telling is None:
            self._telling = self._world.after(self._world.between(*TELL_S), self._tell_now)

    def _tell_now(self) -> None:
        self._telling = None
        started, ended = self._started, self._ended
        self._started, self._ended = [], []
        if not self._is_dead:
            self._tell(started, ended)

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

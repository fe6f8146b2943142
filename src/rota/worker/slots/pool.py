"""All slots of an agent: lanes in, events out.

A lane that has work holds a slot; when the last of its attempts has ended, the slot goes back and
serves whichever lane comes next. Slots that stay idle are let go. All methods are called on
the event loop and none waits for a slot, but `start` and `close`.

Every attempt that was handed to `run` ends in exactly one `Ended`, whatever happens to slots and
keeper: if a slot dies, its running attempt ends as ``agent-error`` once its process tree is gone, and the
ones behind it are returned. What no slot can be had for is returned, a moment later: the coordinator would give it
back at once.
"""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import structlog

from rota.core.model import AttemptKey, Cause, LaneId
from rota.core.protocol import Ended, OutputChunk, Started
from rota.core.spec import decode_spec, kind_of
from rota.worker.executors.base import Executor, LaunchRefused
from rota.worker.executors.process import ProcessExecutor, base_environment
from rota.worker.slots.base import SlotEvents, Work
from rota.worker.slots.control import KeeperControl
from rota.worker.slots.frames import Order
from rota.worker.slots.link import SlotLink

__all__ = ["SlotPool"]

IDLE_S_MAX: Final = 60.0
"""How long an idle slot (10 MiB, most of it shared) is kept for the next lane."""

TRIM_PERIOD_S: Final = 10.0

OUTPUT_LIMIT_BYTES_MIN: Final = 8 << 10
OUTPUT_LIMIT_BYTES_MAX: Final = 64 << 20
"""A slot holds up to twice the limit for each stream while an agent is slow."""

MEET_S: Final = 0.005
"""How long results that were held back by their slot wait for those of other slots, which come at the same moment."""

RETURN_PAUSE_S: Final = 1.0
"""Between not getting a slot and handing its attempts back: they may come again with the next message."""

log = structlog.get_logger(__name__)

_Report = tuple[list[Started], list[Ended], list[OutputChunk], str | None]


class _Line:
    """The attempts of one lane that have not ended, in order, and the slot that they are with."""

    __slots__ = ("keys", "lane", "link")

    def __init__(self, lane: LaneId, link: SlotLink) -> None:
        self.lane = lane
        self.link = link
        self.keys: dict[AttemptKey, None] = {}


class _Fate(NamedTuple):
    """What became of a slot: nothing of its tree is left if ``is_empty``; ``may_have_run`` if it ever was."""

    message: str
    is_empty: bool
    may_have_run: bool


class SlotPool:
    """Runs attempts in slots.

    Args:
        events: Who is told what happens.
        worker_id: For ``ROTA_WORKER``.
        has_gpus: Whether tasks without devices must be kept from the worker's GPUs.
        output_limit_bytes: How much of each output stream of an attempt is kept.
        grace_s: From SIGTERM to SIGKILL for an attempt that is over its time-out.
        executors: By kind; only ``process`` if not given.
        file_limit: How many files an attempt may open; as many as this process if not given.
    """

    def __init__(
        self,
        *,
        events: SlotEvents,
        worker_id: str,
        has_gpus: bool = False,
        output_limit_bytes: int = 1 << 20,
        grace_s: float = 10.0,
        executors: Mapping[str, Executor] | None = None,
        file_limit: int | None = None,
    ) -> None:
        if not OUTPUT_LIMIT_BYTES_MIN <= output_limit_bytes <= OUTPUT_LIMIT_BYTES_MAX:
            raise ValueError(
                f"output_limit_bytes must be {OUTPUT_LIMIT_BYTES_MIN:,} to {OUTPUT_LIMIT_BYTES_MAX:,}, "
                f"got {output_limit_bytes:,}"
            )
        self._events = events
        self._executors = executors or {"process": ProcessExecutor(worker_id=worker_id, has_gpus=has_gpus)}
        environment = base_environment(os.environ)
        self._setup = ("setup", output_limit_bytes, float(grace_s), environment)
        own_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._control = KeeperControl(self, environment=environment, file_limit=file_limit or own_limit)
        self._last_number = 0
        self._links: dict[int, SlotLink] = {}
        self._idle: list[SlotLink] = []
        self._lines: dict[LaneId, _Line] = {}
        self._line_of_link: dict[int, _Line] = {}
        self._line_of_key: dict[AttemptKey, _Line] = {}
        self._stranded: set[AttemptKey] = set()
        self._fates: dict[int, _Fate] = {}
        self._started: list[Started] = []
        self._ended: list[Ended] = []
        self._output: list[OutputChunk] = []
        self._delivery: asyncio.Handle | None = None
        self._is_waiting = False
        self._nothing_runs: asyncio.Future[None] | None = None
        self._trim_timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Start the keeper.

        Raises:
            KeeperFailed: It can't be started: nothing could run here.
        """
        await self._control.start()
        self._trim_later()

    def run(self, works: Sequence[Work]) -> None:
        """Append attempts to the lines of their lanes; each ends in one `Ended`."""
        orders: dict[LaneId, list[Order]] = {}
        for work in works:
            try:
                order = self._order(work)
            except LaunchRefused as refusal:
                self._end_unstarted(work.key, Cause.LAUNCH_ERROR, message=str(refusal))
            except Exception as error:  # of one must not keep the others from running
                log.exception("attempt_failed")
                self._fail([work.key], error)
            else:
                orders.setdefault(work.lane, []).append(order)
        for lane, lane_orders in orders.items():
            self._hand_over(lane, lane_orders)

    def stop(self, key: AttemptKey, *, cause: Cause, grace_s: float) -> None:
        """End an attempt: SIGTERM, ``grace_s`` later SIGKILL for the whole tree; at once if it has not started."""
        if (line := self._line_of_key.get(key)) is not None:
            line.link.send(("stop", key[0], key[1], cause.value, float(grace_s)))
        else:
            self._answer_for(key, cause)

    def use_grace(self, grace_s: float) -> None:
        """From now on give attempts that are over their time-out so long from SIGTERM to SIGKILL."""
        name, output_limit_bytes, _, environment = self._setup
        self._setup = (name, output_limit_bytes, float(grace_s), environment)
        for link in self._links.values():
            link.send(("grace", float(grace_s)))

    def take_back(self, keys: Sequence[AttemptKey]) -> None:
        """Hand back those that have not started, as ``returned``; the others go on."""
        asked: dict[int, list[AttemptKey]] = {}
        for key in keys:
            if (line := self._line_of_key.get(key)) is not None:
                asked.setdefault(line.link.number, []).append(key)
            else:
                self._answer_for(key, Cause.RETURNED)
        for number, link_keys in asked.items():
            self._links[number].send(("take-back", link_keys))

    async def close(self, *, kill: bool) -> None:
        """Leave: after everything has ended, or, with ``kill``, at once and without a word about what ran."""
        self._return_stranded(list(self._stranded))
        if not kill and self._line_of_key:
            self._nothing_runs = asyncio.get_running_loop().create_future()
            await self._nothing_runs
        if self._trim_timer is not None:
            self._trim_timer.cancel()
        for link in list(self._links.values()):
            link.close()
        await self._control.close()
        self._deliver()

    # Lines and slots ---------------------------------------------------------------------

    def _order(self, work: Work) -> Order:
        spec = decode_spec(work.spec)
        executor = self._executors.get(kind_of(spec))
        if executor is None:
            raise LaunchRefused(f"this worker has no executor for {kind_of(spec)!r}")
        launch = executor.launch(spec, work)
        task, attempt = work.key
        limits = launch.timeout_s, launch.memory_mib
        return (task, attempt, launch.argv, launch.env, launch.cwd, launch.stdin, *limits)

    def _hand_over(self, lane: LaneId, orders: list[Order]) -> None:
        keys: list[AttemptKey] = [(order[0], order[1]) for order in orders]  # type: ignore[misc] # as in the work
        try:
            line = self._lines.get(lane) or self._open_line(lane)
        except OSError as error:
            log.error("no_slot", lane=lane, attempts=len(keys), error=str(error))
            self._stranded.update(keys)
            asyncio.get_running_loop().call_later(RETURN_PAUSE_S, self._return_stranded, keys)
            return
        for key in keys:
            line.keys[key] = None
            self._line_of_key[key] = line
        try:
            line.link.send(("run", orders))
        except Exception as error:  # of one lane must not keep the others from running
            log.exception("attempts_failed", lane=lane)
            self._fail(keys, error)

    def _open_line(self, lane: LaneId) -> _Line:
        link = self._idle.pop() if self._idle else self._make_slot()
        line = _Line(lane, link)
        self._lines[lane] = line
        self._line_of_link[link.number] = line
        return line

    def _make_slot(self) -> SlotLink:
        self._last_number += 1
        link = SlotLink(self._last_number, self._control.reign, on_message=self._on_message, on_end=self._on_end)
        self._links[link.number] = link
        link.send(self._setup)
        self._control.fork(link.number, link.take_far_end())
        return link

    def _close_line(self, line: _Line) -> None:
        """The lane has nothing to run: its slot is free for another, or leaves if its keeper is gone."""
        del self._lines[line.lane]
        del self._line_of_link[line.link.number]
        if line.link.reign == self._control.reign:
            line.link.idle_since = time.monotonic()
            self._idle.append(line.link)
        else:
            line.link.send(("exit",))

    def _trim_later(self) -> None:
        self._trim_timer = asyncio.get_running_loop().call_later(TRIM_PERIOD_S, self._trim)

    def _trim(self) -> None:
        """Let slots go that were idle for long: those used least are at the front."""
        long_ago = time.monotonic() - IDLE_S_MAX
        while self._idle and self._idle[0].idle_since < long_ago:
            self._idle.pop(0).send(("exit",))
        self._trim_later()

    # What slots and keeper say -----------------------------------------------------------

    def _on_message(self, link: SlotLink, message: tuple[object, ...]) -> None:
        started, ended, output, trouble = msgspec.convert(message, _Report)
        self._started += started
        self._output += output
        line = self._line_of_link.get(link.number)
        if trouble is not None and line is not None:
            self._events.on_quarantined(line.lane, trouble)
            # The slot takes no more; the line stays in `_line_of_link` until all it had is answered for.
            self._lines.pop(line.lane, None)
        for end in ended:
            self._ended.append(end)
            self._forget((end.task, end.attempt))
        self._deliver_soon(can_wait=len(ended) > 1 and not started and not output)

    def _on_end(self, link: SlotLink) -> None:
        """A slot said its last word. What it had ends once nothing of it is left, which the keeper says."""
        if link in self._idle:
            self._idle.remove(link)
        if (line := self._line_of_link.get(link.number)) is not None and self._lines.get(line.lane) is line:
            del self._lines[line.lane]
        self._resolve(link)

    def on_slot_forked(self, number: int) -> None:
        if (link := self._links.get(number)) is not None:
            link.is_forked = True

    def on_slot_gone(self, number: int, message: str, *, is_empty: bool) -> None:
        if (link := self._links.get(number)) is not None:
            self._fates[number] = _Fate(message, is_empty, may_have_run=True)
            self._resolve(link)

    def on_keeper_lost(self) -> None:
        """The slots finish what they have; nobody can clean up after them, so they get nothing more."""
        while self._idle:
            self._idle.pop().send(("exit",))
        for link in list(self._links.values()):
            if link.number not in self._fates:
                message = "the slot process ended after its keeper, so what it ran may still be there"
                self._fates[link.number] = _Fate(message, not link.is_forked, may_have_run=link.is_forked)
                self._resolve(link)

    def _resolve(self, link: SlotLink) -> None:
        """Answer for all that a slot still had, once its last word is read and its fate known."""
        if not link.is_closed or link.number not in self._fates:
            return
        del self._links[link.number]
        fate = self._fates.pop(link.number)
        line = self._line_of_link.pop(link.number, None)
        if line is None:
            return
        if not fate.is_empty:
            self._events.on_quarantined(line.lane, fate.message)
        for index, key in enumerate(list(line.keys)):
            if index == 0 and fate.may_have_run:
                self._end_unstarted(key, Cause.AGENT_ERROR, message=fate.message)
            else:
                self._end_unstarted(key, Cause.RETURNED)

    def _forget(self, key: AttemptKey) -> None:
        line = self._line_of_key.pop(key, None)
        if line is None:
            return
        del line.keys[key]
        if not line.keys and self._lines.get(line.lane) is line:
            self._close_line(line)
        if not self._line_of_key and self._nothing_runs is not None and not self._nothing_runs.done():
            self._nothing_runs.set_result(None)

    # What the agent is told --------------------------------------------------------------

    def _answer_for(self, key: AttemptKey, cause: Cause) -> None:
        """End what no slot has, unless its end is about to be told: whoever asks would wait for ever."""
        self._stranded.discard(key)
        if not any((end.task, end.attempt) == key for end in self._ended):
            self._end_unstarted(key, cause)

    def _return_stranded(self, keys: Sequence[AttemptKey]) -> None:
        for key in self._stranded.intersection(keys):
            self._answer_for(key, Cause.RETURNED)

    def _fail(self, keys: Sequence[AttemptKey], error: Exception) -> None:
        """End attempts because of a mistake of ours."""
        for key in keys:
            self._end_unstarted(key, Cause.AGENT_ERROR, message=f"the worker could not run it: {error}")

    def _end_unstarted(self, key: AttemptKey, cause: Cause, *, message: str | None = None) -> None:
        self._ended.append(Ended(key[0], key[1], cause, ended_at=time.time(), message=message))
        self._forget(key)
        self._deliver_soon()

    def _deliver_soon(self, *, can_wait: bool = False) -> None:
        """Tell once in this turn of the loop, or a moment later, however many slots have something to say."""
        if self._delivery is not None:
            if can_wait or not self._is_waiting:
                return
            self._delivery.cancel()
        loop = asyncio.get_running_loop()
        self._is_waiting = can_wait
        self._delivery = loop.call_later(MEET_S, self._deliver) if can_wait else loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._delivery = None
        if self._started or self._ended or self._output:
            started, ended, output = self._started, self._ended, self._output
            self._started, self._ended, self._output = [], [], []
            self._events.on_events(started, ended, output)

"""All slots of an agent: lanes in, events out.

A lane that has work holds a slot; when the last of its attempts has ended, the slot goes back and
serves whichever lane comes next. All methods are called on the event loop and none waits for a slot, but `start`
and `close`.

A program can run at once, unless it is to be built, or files go with it. A function may need more: a process for it, a
virtual environment, files. It waits for these in its lane's line, and so does what stands behind it: a lane keeps its
order. One slot runs one kind of work in one environment; where the line changes to another, the lane changes its slot
once the first is through.

Every attempt that was handed to `run` ends in exactly one `Ended`, whatever happens to slots and
keepers: if a slot dies, its running attempt ends as ``agent-error`` once its process tree is gone, and the
ones behind it are returned. What no slot can be had for is returned, a moment later: the coordinator would give it
back at once.
"""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, cast

import msgspec
import structlog

from rota.core.model import AttemptKey, Cause, LaneId
from rota.core.protocol import Ended, Mark, OutputChunk, Started
from rota.worker.executors.base import LaunchRefused
from rota.worker.executors.function import FunctionExecutor
from rota.worker.executors.process import base_environment
from rota.worker.slots.base import SlotEvents, Stock, SuppliesFailed, Work
from rota.worker.slots.errands import Errand, ErrandReader
from rota.worker.slots.frames import FunctionOrder, Order, encode_orders
from rota.worker.slots.handover import Handover
from rota.worker.slots.link import SlotLink
from rota.worker.slots.source import SlotFate, SlotSettings, SlotSource
from rota.worker.slots.supplies import Supplies
from rota.worker.slots.telling import Teller

__all__ = ["SlotPool"]

TRIM_PERIOD_S: Final = 10.0

OUTPUT_LIMIT_BYTES_MIN: Final = 8 << 10
OUTPUT_LIMIT_BYTES_MAX: Final = 64 << 20
"""A slot holds up to twice the limit for each stream while an agent is slow."""

MEET_S: Final = 0.005
"""How long results that were held back by their slot wait for those of other slots, which come at the same moment."""

FUNCTIONS_MEET_S: Final = 0.001
"""The same for functions, as long as their slot has more to run."""

RETURN_PAUSE_S: Final = 1.0
"""Between not getting a slot and handing its attempts back: they may come again with the next message."""

_NOTHING: Final = Stock()

log = structlog.get_logger(__name__)

_ProgramReport = tuple[list[Started], list[Ended], list[OutputChunk], str | None]
_FunctionReport = tuple[list[Started], list[Ended], list[OutputChunk], str | None, list[Mark]]


class _Load:
    """What one slot has of one lane: the attempts that have not ended, in order, and what must be kept for each."""

    __slots__ = ("keys", "line", "link", "source")

    def __init__(self, line: _Line, link: SlotLink, source: SlotSource) -> None:
        self.line = line
        self.link = link
        self.source = source
        self.keys: dict[AttemptKey, tuple[str, ...]] = {}


class _Line:
    """A lane that has work: what its slot has, and what waits behind that, in order."""

    __slots__ = ("lane", "load", "waiting")

    def __init__(self, lane: LaneId) -> None:
        self.lane = lane
        self.load: _Load | None = None
        self.waiting: dict[AttemptKey, Errand] = {}


class SlotPool:
    """Runs attempts in slots.

    Args:
        events: Who is told what happens.
        worker_id: For ``ROTA_WORKER``.
        has_gpus: Whether tasks without devices must be kept from the worker's GPUs.
        output_limit_bytes: How much of each output stream of an attempt is kept.
        grace_s: From SIGTERM to SIGKILL for an attempt that is over its time-out.
        file_limit: How many files an attempt may open; as many as this process if not given.
        stock: What attempts need besides a slot.
        scratch_limit_mib: How much an attempt may have in its scratch directory at once; any amount if not given.
    """

    def __init__(
        self,
        *,
        events: SlotEvents,
        worker_id: str,
        has_gpus: bool = False,
        output_limit_bytes: int = 1 << 20,
        grace_s: float = 10.0,
        file_limit: int | None = None,
        stock: Stock = _NOTHING,
        scratch_limit_mib: int | None = None,
    ) -> None:
        if not OUTPUT_LIMIT_BYTES_MIN <= output_limit_bytes <= OUTPUT_LIMIT_BYTES_MAX:
            raise ValueError(
                f"output_limit_bytes must be {OUTPUT_LIMIT_BYTES_MIN:,} to {OUTPUT_LIMIT_BYTES_MAX:,}, "
                f"got {output_limit_bytes:,}"
            )
        self._events = events
        self._reader = ErrandReader(worker_id=worker_id, has_gpus=has_gpus, stock=stock)
        self._supplies = Supplies(
            settings=SlotSettings(
                environment=base_environment(os.environ),
                output_limit_bytes=output_limit_bytes,
                grace_s=grace_s,
                file_limit=file_limit or resource.getrlimit(resource.RLIMIT_NOFILE)[0],
                scratch_limit_mib=scratch_limit_mib,
            ),
            events=self,
            functions=FunctionExecutor(worker_id=worker_id, has_gpus=has_gpus),
            stock=stock,
            on_change=self._advance_all,
            on_failed=self._on_failed,
            is_wanted=lambda needs_it: any(map(needs_it, self._waiting())),
        )
        self._sources = self._supplies.sources
        self._handover = Handover(stock.blobs, self._tell_late) if stock.blobs is not None else None
        self._teller = Teller(events)
        self._lines: dict[LaneId, _Line] = {}
        self._load_of_link: dict[SlotLink, _Load] = {}
        self._load_of_key: dict[AttemptKey, _Load] = {}
        self._line_of_waiting: dict[AttemptKey, _Line] = {}
        self._stranded: set[AttemptKey] = set()
        self._nothing_runs: asyncio.Future[None] | None = None
        self._trim_timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Start the keeper of programs.

        Raises:
            KeeperFailed: It can't be started: nothing could run here.
        """
        await self._sources.start()
        self._trim_later()

    def run(self, works: Sequence[Work]) -> None:
        """Append attempts to the lines of their lanes; each ends in one `Ended`."""
        errands: dict[LaneId, list[Errand]] = {}
        for work in works:
            try:
                errand = self._reader.read(work)
            except LaunchRefused as refusal:
                self._end(work.key, Cause.LAUNCH_ERROR, message=str(refusal))
            except OSError as error:  # no place for its scratch directory
                log.error("attempt_not_run", error=str(error))
                self._fail([work.key], error)
            except Exception as error:  # of one must not keep the others from running
                log.exception("attempt_failed")
                self._fail([work.key], error)
            else:
                errands.setdefault(work.lane, []).append(errand)
        for lane, lane_errands in errands.items():
            self._append(lane, lane_errands)

    def stop(self, key: AttemptKey, *, cause: Cause, grace_s: float) -> None:
        """End an attempt: SIGTERM, ``grace_s`` later SIGKILL for the whole tree; at once if it has not started."""
        if (load := self._load_of_key.get(key)) is not None:
            load.link.send(("stop", key[0], key[1], cause.value, float(grace_s)))
        elif key in self._line_of_waiting:
            self._withdraw([key], cause)
        elif self._handover is not None and key in self._handover:
            self._handover.stop(key, cause)
        else:
            self._answer_for(key, cause)

    def use_grace(self, grace_s: float) -> None:
        """From now on give attempts that are over their time-out so long from SIGTERM to SIGKILL."""
        self._sources.use_grace(grace_s)

    def take_back(self, keys: Sequence[AttemptKey]) -> None:
        """Hand back those that have not started, as ``returned``; the others go on."""
        asked: dict[SlotLink, list[AttemptKey]] = {}
        waiting: list[AttemptKey] = []
        for key in keys:
            if (load := self._load_of_key.get(key)) is not None:
                asked.setdefault(load.link, []).append(key)
            elif key in self._line_of_waiting:
                waiting.append(key)
            elif self._handover is None or key not in self._handover:
                self._answer_for(key, Cause.RETURNED)
        self._withdraw(waiting, Cause.RETURNED)
        for link, link_keys in asked.items():
            link.send(("take-back", link_keys))

    def has(self, key: AttemptKey) -> bool:
        """Whether a slot has this attempt, or will say how it ended."""
        return key in self._load_of_key

    def blobs_in_use(self) -> set[str]:
        """The digests of all that attempts here use, wait for or have made: none of it may be removed."""
        kept = {names for load in self._load_of_link.values() for names in load.keys.values()}
        kept.update(errand.kept for errand in self._waiting())
        used = {name for names in kept for name in names}
        if self._handover is not None:
            used.update(self._handover.blobs_in_use())
        return used

    async def close(self, *, kill: bool) -> None:
        """Leave: after everything has ended, or, with ``kill``, at once and without a word about what ran."""
        self._return_stranded(list(self._stranded))
        if not kill and self._has_work():
            self._nothing_runs = asyncio.get_running_loop().create_future()
            await self._nothing_runs
        if self._trim_timer is not None:
            self._trim_timer.cancel()
        if self._handover is not None:
            await self._handover.close()
        await self._supplies.close()
        self._teller.deliver()

    # Lines ---------------------------------------------------------------------------------

    def _append(self, lane: LaneId, errands: list[Errand]) -> None:
        line = self._lines.get(lane)
        if line is None:
            line = self._lines[lane] = _Line(lane)
        source, orders = (None, []) if line.waiting else self._orders(line, errands)
        for errand in errands[len(orders) :]:
            line.waiting[errand.key] = errand
            self._line_of_waiting[errand.key] = line
            self._supplies.call_for(errand)
        if source is not None:
            self._hand_over(line, source, errands[: len(orders)], orders)
        self._tidy(line)

    def _advance(self, line: _Line) -> None:
        """Hand on what waited, as far as it has now what it waited for."""
        if line.waiting:
            waiting = list(line.waiting.values())
            source, orders = self._orders(line, waiting)
            passed = waiting[: len(orders)]
            for errand in passed:
                self._forget_waiting(errand.key)
            if source is not None:
                self._hand_over(line, source, passed, orders)
            elif line.load is None:
                self._supplies.call_for(waiting[0])  # it may have left since it came
        self._tidy(line)

    def _advance_all(self) -> None:
        for line in [line for line in self._lines.values() if line.waiting]:
            self._advance(line)

    def _orders(self, line: _Line, errands: Sequence[Errand]) -> tuple[SlotSource | None, list[Order | FunctionOrder]]:
        return self._supplies.orders(errands, line.load.source if line.load is not None else None)

    def _hand_over(
        self, line: _Line, source: SlotSource, errands: Sequence[Errand], orders: list[Order | FunctionOrder]
    ) -> None:
        load = line.load
        if load is None:
            try:
                link = source.take(errands[0].devices, errands[0].memory_mib)
            except OSError as error:
                self._strand([errand.key for errand in errands], error)
                return
            load = line.load = self._load_of_link[link] = _Load(line, link, source)
        for errand in errands:
            load.keys[errand.key] = errand.kept
            self._load_of_key[errand.key] = load
        try:
            is_for_functions = source.kind == "function"
            load.link.send(
                ("calls", encode_orders(cast("list[FunctionOrder]", orders))) if is_for_functions else ("run", orders)
            )
        except Exception as error:  # of one lane must not keep the others from running
            log.exception("attempts_failed", lane=line.lane)
            self._fail([errand.key for errand in errands], error)

    def _tidy(self, line: _Line) -> None:
        """Give the slot of a lane back that has nothing to run, and forget a lane that has nothing at all."""
        load = line.load
        if load is not None and not load.keys:
            line.load = None
            del self._load_of_link[load.link]
            load.source.give_back(load.link)
            self._advance(line)  # what waits may be for another slot
        elif load is None and not line.waiting and self._lines.get(line.lane) is line:
            del self._lines[line.lane]

    # What waits ----------------------------------------------------------------------------

    def _waiting(self) -> Iterable[Errand]:
        return (errand for line in self._lines.values() for errand in line.waiting.values())

    def _on_failed(self, needs_it: Callable[[Errand], bool], failed: SuppliesFailed) -> None:
        keys = [errand.key for errand in self._waiting() if needs_it(errand)]
        self._withdraw(keys, failed.cause, message=str(failed))

    def _withdraw(self, keys: Sequence[AttemptKey], cause: Cause, *, message: str | None = None) -> None:
        """End attempts that wait; what stood behind them may go on."""
        lines = {self._line_of_waiting[key].lane: self._line_of_waiting[key] for key in keys}
        for key in keys:
            self._forget_waiting(key)
            self._end(key, cause, message=message)
        for line in lines.values():
            self._advance(line)

    def _forget_waiting(self, key: AttemptKey) -> None:
        del self._line_of_waiting.pop(key).waiting[key]

    def _trim_later(self) -> None:
        self._trim_timer = asyncio.get_running_loop().call_later(TRIM_PERIOD_S, self._trim)

    def _trim(self) -> None:
        self._sources.trim()
        self._trim_later()

    # What slots say ------------------------------------------------------------------------

    def on_message(self, source: SlotSource, link: SlotLink, message: tuple[object, ...]) -> None:
        is_of_functions = source.kind == "function"
        if is_of_functions:
            started, ended, output, trouble, marks = msgspec.convert(message, _FunctionReport)
            if marks:
                self._events.on_marks(marks)
        else:
            started, ended, output, trouble = msgspec.convert(message, _ProgramReport)
        load = self._load_of_link.get(link)
        if trouble is not None and load is not None:
            self._events.on_quarantined(load.line.lane, trouble)
            self._part_from(load)
        for end in ended:
            self._forget((end.task, end.attempt))
        self._teller.add(started, self._without_held(ended), output)
        if is_of_functions:
            self._teller.deliver_within(FUNCTIONS_MEET_S if load is not None and load.keys else 0.0)
        else:
            self._teller.deliver_within(MEET_S if len(ended) > 1 and not started and not output else 0.0)
        self._see_whether_done()

    def on_slot_closed(self, link: SlotLink) -> None:
        if (load := self._load_of_link.get(link)) is not None:
            self._part_from(load)

    def on_slot_lost(self, link: SlotLink, fate: SlotFate) -> None:
        """Answer for all that the slot still had."""
        load = self._load_of_link.pop(link, None)
        if load is None:
            return
        if not fate.is_empty:
            self._events.on_quarantined(load.line.lane, fate.message)
        for index, key in enumerate(list(load.keys)):
            if index == 0 and fate.may_have_run:
                self._end(key, Cause.AGENT_ERROR, message=fate.message)
            else:
                self._end(key, Cause.RETURNED)

    def _part_from(self, load: _Load) -> None:
        """The slot takes no more; its load stays in `_load_of_link` until all of it is answered for."""
        if load.line.load is load:
            load.line.load = None
            self._advance(load.line)

    def _forget(self, key: AttemptKey) -> None:
        load = self._load_of_key.pop(key, None)
        if load is None:
            return
        del load.keys[key]
        if not load.keys:
            self._tidy(load.line)

    # What the agent is told ----------------------------------------------------------------

    def _without_held(self, ended: list[Ended]) -> list[Ended]:
        """Hold back those whose blobs must go up first."""
        handover = self._handover
        if handover is None or not any(end.blobs or end.outputs for end in ended):
            return ended
        return [end for end in ended if not ((end.blobs or end.outputs) and handover.takes(end))]

    def _tell_late(self, end: Ended) -> None:
        self._teller.add_end(end)
        self._see_whether_done()

    def _answer_for(self, key: AttemptKey, cause: Cause) -> None:
        """End what no slot has, unless its end is about to be told: whoever asks would wait for ever."""
        self._stranded.discard(key)
        if not self._teller.has_end_of(key):
            self._end(key, cause)

    def _strand(self, keys: Sequence[AttemptKey], error: OSError) -> None:
        """Hand attempts back for which no slot can be had, but not at once."""
        log.error("no_slot", attempts=len(keys), error=str(error))
        self._stranded.update(keys)
        asyncio.get_running_loop().call_later(RETURN_PAUSE_S, self._return_stranded, keys)

    def _return_stranded(self, keys: Sequence[AttemptKey]) -> None:
        for key in self._stranded.intersection(keys):
            self._answer_for(key, Cause.RETURNED)

    def _fail(self, keys: Sequence[AttemptKey], error: Exception) -> None:
        """End attempts because of a mistake of ours."""
        for key in keys:
            self._end(key, Cause.AGENT_ERROR, message=f"the worker could not run it: {error}")

    def _end(self, key: AttemptKey, cause: Cause, *, message: str | None = None) -> None:
        """Tell the end of an attempt that no slot will tell."""
        self._teller.add_end(Ended(key[0], key[1], cause, ended_at=time.time(), message=message))
        self._forget(key)
        self._see_whether_done()

    def _has_work(self) -> bool:
        return bool(self._load_of_key or self._line_of_waiting or self._handover)

    def _see_whether_done(self) -> None:
        if self._nothing_runs is not None and not self._nothing_runs.done() and not self._has_work():
            self._nothing_runs.set_result(None)

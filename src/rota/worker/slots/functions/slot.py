"""A slot of functions: the process that looks after a lane's runner, and speaks with the agent.

The model is one loop around one ``poll``: on the sockets of the agent and of the runner, the runner's pidfd, and the
pipes of its output while a call is *watched*. After whatever has happened, it looks at the window: takes the results,
and sees what runs. A call is watched when it has run for 20 ms, or something is to end it, or it writes much;
for all others the slot hands chunks of orders down and chunks of results up without a look at what is in them.

Results are told at once, unless they come in quick succession: see `rota.worker.slots.functions.lookout`.

Invariants: each order ends once. Nothing of a call is left when its end is told, or the slot says that it must not be
used again. If the agent goes, the socket ends, and the slot kills what runs and leaves. A slow agent blocks nothing:
what it has not read waits here, up to a limit, over which the runner gets no more orders.
"""

from __future__ import annotations

import _socket
import socket
import time
from typing import Final

from rota.worker.slots.attempt import ended_unstarted
from rota.worker.slots.frames import decode, encode
from rota.worker.slots.functions.fork import RunnerProcess, fork_runner
from rota.worker.slots.functions.line import Line
from rota.worker.slots.functions.lookout import Lookout
from rota.worker.slots.functions.output_pair import OutputPair, Pieces
from rota.worker.slots.functions.poller import Poller
from rota.worker.slots.functions.reports import AgentSocket
from rota.worker.slots.functions.standstill import Standstill
from rota.worker.slots.functions.watch import REPORT_AFTER_S, WatchedCall
from rota.worker.slots.functions.window import (
    CURRENT,
    ERA,
    IS_READING,
    IS_WATCHED,
    ORDINAL_MAX,
    OUTPUT_TAKEN,
    OUTPUT_WAITS,
    REFUSED,
    STARTED,
    STOPPED,
    Window,
)
from rota.worker.slots.linux import become_subreaper, limit_files, name_process
from rota.worker.slots.memory import watch_kernel
from rota.worker.slots.output import OutputStream
from rota.worker.slots.tree import Reaped, kill_tree, resident_kib

__all__ = ["FunctionSlot", "run_function_slot"]

RECALL_PAUSE_S: Final = 0.0001
"""From raising the era to reading what runs: see `rota.worker.slots.functions.window`."""

MARK_PERIOD_S: Final = 0.2
"""Between marks of one call."""

FED_MAX: Final = 1024
"""Orders that a runner may have before it is fed more: 7 ms of the shortest calls, and the slot looks more often. Also
that many results may come from it while the agent is slow."""

RUNS_MAX: Final = 1_000_000
"""Calls in one runner: what leaks a little with each is let go of then. Warm modules are worth keeping long."""

LEAK_SHARE: Final = 0.75
"""Of the memory that a task of this lane may have: a runner that has kept more after a call is replaced."""

IDLE_DEATHS_MAX: Final = 3
"""Runners in a row that ended without having called anything."""

FORK_PAUSE_S: Final = 1.0
"""After the system had no process for a runner, or those that it had ended at once, again and again. In the first case
what waits is handed back if there is none then, either."""

EMPTY_WITHIN_S: Final = 5.0
"""For killing a tree. What is left after that does not obey, and the slot is lost."""

STRAY_PERIOD_S: Final = 1.0
"""Between further tries to kill what could not be killed."""

TROUBLE: Final = (
    f"processes of the function could not be killed within {EMPTY_WITHIN_S:g} s; its slot is not used again"
)


class FunctionSlot:
    """Serves one agent until that leaves or says so. Made once a process."""

    def __init__(self, connection: socket.socket) -> None:
        self._agent = AgentSocket(connection)
        self._line = Line()
        self._window = Window()
        self._words = self._window.words
        self._runner: RunnerProcess | None = None
        self._watched: WatchedCall | None = None
        self._is_leaving = False
        self._is_recalled = False
        self._must_replace = False
        self._lookout, self._standstill = Lookout(), Standstill()
        self._note_at = 0.0
        self._fork_at: float | None = None
        self._has_failed_to_fork = False
        self._idle_deaths = 0
        self._poll = Poller()

    def serve(self) -> None:
        """Run what comes, until the agent is gone, or said to leave and nothing is left to do."""
        while not self._agent.is_gone:
            if self._is_leaving and not (self._line.has_waiting or self._line.has_fed or self._agent.has_outgoing):
                break
            self._turn()
        kill_tree(Reaped(0), EMPTY_WITHIN_S)

    def _set_up(self, output_limit_bytes: int, grace_s: float, base_env: dict[str, str]) -> None:
        self._grace_s = grace_s
        self._environment = base_env
        self._streams = OutputPair(output_limit_bytes)
        self._start_runner()

    # The loop ------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Wait for something to happen, and do what follows from it."""
        self._poll.add(self._agent.fd, has_outgoing=self._agent.has_outgoing)
        runner = self._runner
        if runner is not None:
            self._poll.add(runner.fd, has_outgoing=runner.has_outgoing)
        is_dead = False
        for fd, flags in self._poll.wait(self._timeout_s()):
            if fd == self._agent.fd:
                for body in self._agent.exchange(flags):
                    self._obey(body)
            elif runner is None or runner is not self._runner:
                continue  # replaced by what the agent said
            elif fd == runner.fd:
                runner.hear()
                runner.send_more()
            elif fd == runner.pid_fd:
                is_dead = True
            else:
                self._read(self._streams.by_fd(fd))
        now = time.monotonic()
        if is_dead and runner is self._runner:
            self._bury(now)
        self._look(now)
        self._feed(now)
        self._agent.flush()

    def _look(self, now: float) -> None:
        """See what has become of what the runner has."""
        if self._runner is None:
            if self._fork_at is not None and now >= self._fork_at:
                self._start_runner()
            return
        found = self._take(now)
        self._settle()
        if self._words[OUTPUT_WAITS] != self._words[OUTPUT_TAKEN]:
            self._take_output(now)
        if self._watched is None and self._line.has_fed:
            self._watch_if_long(now)
        if self._watched is not None:
            self._tend(self._watched, now)
        if self._must_replace and not self._line.has_fed and self._runner is not None:
            self._bury(now)
        self._lookout.looked(now, found=found, fed=self._line.fed_count())
        self._words[IS_WATCHED] = self._lookout.is_on

    def _timeout_s(self) -> float | None:
        due = [self._lookout.look_at, self._fork_at]
        if self._watched is not None:
            due += [self._watched.next_due(), self._streams.next_due()]
        elif self._line.has_fed:
            due.append(self._note_at)
        first = min((at for at in due if at is not None), default=None)
        return None if first is None else max(first - time.monotonic(), 0.0)

    # Results -------------------------------------------------------------------------------

    def _take(self, now: float) -> int:
        """Take the results that are there; return how many there were."""
        ordinal, records = self._window.take()
        if not records:
            return 0
        watched = self._watched
        found = count = self._line.end_up_to(ordinal)
        if watched is not None:  # it is the first: what came before it was taken before it was watched
            record = decode(records)
            records = records[len(encode(record)) :]
            count -= 1
            self._finish(watched, record, now)
        if count:
            self._agent.add_records(records, count)
        return found

    def _finish(self, watched: WatchedCall, record: tuple[object, ...], now: float) -> None:
        """A call that was watched has come to its end."""
        out, err = record[12], record[13]
        assert isinstance(out, bytes)
        assert isinstance(err, bytes)
        self._streams.keep(out, err, now)
        self._add_output(watched, self._streams.take_rest())
        self._agent.add_ended(watched.ended(record, self._streams))
        self._unwatch()
        if watched.cause is not None:  # the stop may have torn anything in there
            self._must_replace = True
        elif watched.memory_mib is not None and self._runner is not None:
            kept_kib = resident_kib(self._runner.pid)
            self._must_replace = self._must_replace or kept_kib > LEAK_SHARE * watched.memory_mib * 1024

    def _add_output(self, watched: WatchedCall, pieces_by_stream: Pieces) -> None:
        for name, pieces in pieces_by_stream:
            self._agent.add_output(watched.key, name, pieces)

    def _running(self, now: float) -> int:
        """The ordinal of the call that runs; 0 if none does. All before it are taken then."""
        current = self._words[CURRENT]
        self._take(now)
        return current if self._line.is_fed(current) else 0

    def _settle(self) -> None:
        """A call that seemed to run when the others were taken back was given up by the runner: it waits again."""
        ordinal = self._words[REFUSED]
        if not ordinal or ordinal != self._words[CURRENT] or not self._line.is_fed(ordinal):
            return
        self._line.put_back(ordinal)
        watched = self._watched
        if watched is None:
            return
        self._unwatch()
        if watched.cause is not None:
            self._end_waiting([watched.key], watched.cause)
            self._must_replace = True

    # The call that is watched --------------------------------------------------------------

    def _watch_if_long(self, now: float) -> None:
        ordinal = self._running(now)
        if not ordinal:
            self._note_at = now + REPORT_AFTER_S
            if self._standstill.is_stuck(self._words[CURRENT], now):
                self._bury(now)
            return
        self._note_at = self._window.times[STARTED] + REPORT_AFTER_S
        if now >= self._note_at:
            self._watch(ordinal)

    def _watch(self, ordinal: int) -> WatchedCall:
        watched = self._watched
        if watched is not None and watched.ordinal == ordinal:
            return watched
        assert watched is None
        order = self._line.find_fed(ordinal)
        assert order is not None
        watched = WatchedCall(ordinal, order, started=self._window.times[STARTED], grace_s=self._grace_s)
        self._watched = watched
        for fd in self._streams.read_fds:
            self._poll.add(fd)
        return watched

    def _unwatch(self) -> None:
        self._watched = None
        self._window.forget_marks()
        for fd in self._streams.read_fds:
            self._poll.remove(fd)
        self._streams.begin()

    def _tend(self, watched: WatchedCall, now: float) -> None:
        """Report what is due of a call that goes on, and see whether it must end."""
        if not watched.is_reported and now >= watched.started + REPORT_AFTER_S:
            watched.is_reported = True
            self._agent.add_started((watched.task, watched.number, watched.started_at))
        self._add_output(watched, self._streams.take_due(now))
        self._look_at_mark(watched, now)
        if watched.is_over_time(now):
            message = f"ran longer than its timeout of {watched.timeout_s:g} s"
            self._stop_watched(watched, "timeout", watched.grace_s, message=message)
        if self._watched is watched and watched.kill_at is not None and now >= watched.kill_at:
            self._bury(now)
        elif self._watched is watched and (excess := watched.memory.look(now)) is not None:
            self._recall(now)
            if self._watched is watched:
                watched.cause, watched.message = "oom", excess
                self._bury(now)

    def _look_at_mark(self, watched: WatchedCall, now: float) -> None:
        if watched.marks_due is not None and now < watched.marks_due:
            return
        mark = self._window.find_mark(watched.ordinal, watched.mark_version)
        if mark is None:
            watched.marks_due = None
            self._window.forget_marks()
            return
        watched.mark_version, fraction, text = mark
        watched.marks_due = now + MARK_PERIOD_S
        self._agent.add_mark((watched.task, watched.number, fraction, text))

    def _stop_watched(self, watched: WatchedCall, cause: str, grace_s: float, *, message: str | None = None) -> None:
        """Have a call end, after making sure that the signal can hit no other."""
        now = time.monotonic()
        self._recall(now)
        if self._watched is watched and watched.stop(cause, grace_s, now=now, message=message):
            assert self._runner is not None
            self._words[STOPPED] = watched.ordinal
            self._runner.stop()

    # Output --------------------------------------------------------------------------------

    def _read(self, stream: OutputStream) -> None:
        """Read a piece of output; find out whose it is before the runner may leave that call."""
        now = time.monotonic()
        self._words[IS_READING] = 1
        data = stream.receive()
        current = self._words[CURRENT]
        if self._watched is None or self._watched.ordinal != current:
            ordinal = self._running(now)
            if ordinal:
                self._watch(ordinal)
        if data and self._watched is not None:
            stream.keep(data, now)
        self._words[IS_READING] = 0

    def _take_output(self, now: float) -> None:
        """The runner waits at the end of a call that has written much: read it."""
        ordinal = self._words[OUTPUT_WAITS]
        if self._running(now) == ordinal:
            self._watch(ordinal)
            self._streams.drain(now)
        self._words[OUTPUT_TAKEN] = ordinal

    # The runner ----------------------------------------------------------------------------

    def _start_runner(self) -> None:
        self._window.reset()
        self._line.restart()
        self._is_recalled = self._must_replace = False
        self._lookout, self._standstill = Lookout(), Standstill()
        self._fork_at = None
        own_fds = [self._agent.fd]
        try:
            self._runner = fork_runner(self._window, self._streams, self._environment, own_fds)
        except OSError:
            if self._has_failed_to_fork:
                self._end_waiting(self._line.waiting_keys(), "returned")
            self._has_failed_to_fork = True
            self._fork_at = time.monotonic() + FORK_PAUSE_S
            return
        self._has_failed_to_fork = False
        self._poll.add(self._runner.pid_fd)

    def _feed(self, now: float) -> None:
        """Hand on chunks, as many as the runner takes without having everything."""
        runner, line = self._runner, self._line
        if runner is None or self._must_replace or not line.has_waiting or self._agent.is_full:
            return
        if self._is_recalled:
            if line.has_fed:
                return  # until it is known what became of the call that ran
            self._is_recalled = False
        watch_kernel(now)
        if not line.has_fed:
            self._note_at = now + REPORT_AFTER_S
        while (count := line.waiting_count()) and runner.may_be_fed and line.fed_count() < FED_MAX:
            runs = line.runs + line.fed_count()
            if (runs and runs + count > RUNS_MAX) or line.next_ordinal + count > ORDINAL_MAX:
                self._must_replace = True
                return
            chunk = line.feed()
            runner.feed(chunk.encoded, era=self._words[ERA], first=chunk.first)

    def _recall(self, now: float) -> None:
        """Take back all that the runner has not started. Afterwards it starts nothing until it is fed again."""
        running = self._running(now)
        if self._line.has_behind(running or self._line.taken):
            self._words[ERA] += 1
            time.sleep(RECALL_PAUSE_S)
            running = self._running(now)
            self._line.recall(running or self._line.taken)
        self._is_recalled = True

    def _bury(self, now: float) -> None:
        """The runner is dead or is to be: make sure, tell what became of what it ran, and start the next."""
        runner = self._runner
        assert runner is not None
        reaped = Reaped(runner.pid)
        is_empty = reaped.reap() or kill_tree(reaped, EMPTY_WITHIN_S)
        running = self._running(now)
        self._settle()
        if running and self._line.is_fed(running):
            watched = self._watch(running)
            if not is_empty:
                watched.cause = watched.cause or "agent-error"
                watched.message = f"{watched.message}; {TROUBLE}" if watched.message else TROUBLE
            self._streams.drain(now)
            self._add_output(watched, self._streams.take_rest())
            self._line.end_up_to(running)
            self._agent.add_ended(watched.died(reaped.main_status, self._streams))
            self._unwatch()
        self._idle_deaths = 0 if self._line.runs or self._must_replace else self._idle_deaths + 1
        self._line.recall(self._line.taken)
        for fd in (runner.fd, runner.pid_fd):
            self._poll.remove(fd)
        runner.close()
        self._runner = None
        if not is_empty:
            self._withdraw()
            return
        if self._idle_deaths >= IDLE_DEATHS_MAX:
            self._give_up_first()
            self._fork_at = now + FORK_PAUSE_S
        else:
            self._start_runner()

    def _give_up_first(self) -> None:
        """Whatever is wrong, it must not go on for ever."""
        order = self._line.remove_first()
        if order is not None:
            message = "the process that was to call the function ended again and again before it could"
            self._agent.add_ended(ended_unstarted(order[0], order[1], "agent-error", message=message))

    def _withdraw(self) -> None:
        """Hand the line back, and do nothing more than trying to get rid of what is left."""
        trouble: str | None = TROUBLE
        while not (self._agent.is_gone or self._is_leaving):
            self._end_waiting(self._line.waiting_keys(), "returned")
            # The trouble goes with the end of the attempt: the agent must not give this slot to another lane.
            self._agent.flush(trouble)
            trouble = None
            self._poll.add(self._agent.fd, has_outgoing=self._agent.has_outgoing)
            for _, flags in self._poll.wait(STRAY_PERIOD_S):
                for body in self._agent.exchange(flags):
                    self._obey(body)
            kill_tree(Reaped(0), 0.0)
        self._agent.is_gone = True

    # The agent -----------------------------------------------------------------------------

    def _obey(self, body: bytearray) -> None:
        match decode(body):
            case ("calls", bytes(encoded)):
                self._line.add(encoded)
            case ("stop", int(task), int(number), str(cause), float(grace_s)):
                self._stop((task, number), cause=cause, grace_s=grace_s)
            case ("take-back", list(keys)):
                self._take_back([(task, number) for task, number in keys])
            case ("setup", int(output_limit_bytes), float(grace_s), dict(base_env)):
                self._set_up(output_limit_bytes, grace_s, base_env)
            case ("grace", float(grace_s)):
                self._grace_s = grace_s
            case ("exit",):
                self._is_leaving = True
            case message:
                raise AssertionError(f"the agent sent {message!r}")

    def _stop(self, key: tuple[int, int], *, cause: str, grace_s: float) -> None:
        now = time.monotonic()
        if self._line.has_fed_key(key):
            self._recall(now)
            ordinal = self._running(now)
            order = self._line.find_fed(ordinal)
            if order is not None and (order[0], order[1]) == key:
                self._stop_watched(self._watch(ordinal), cause, grace_s)
                return
        self._end_waiting([key], cause)

    def _take_back(self, keys: list[tuple[int, int]]) -> None:
        if any(self._line.has_fed_key(key) for key in keys):
            self._recall(time.monotonic())
        self._end_waiting(keys, "returned")

    def _end_waiting(self, keys: list[tuple[int, int]], cause: str) -> None:
        """End those of the attempts that the runner does not have, without having started them."""
        for task, number in self._line.remove(frozenset(keys)):
            self._agent.add_ended(ended_unstarted(task, number, cause))


def run_function_slot(connection: _socket.socket, *, file_limit: int) -> None:
    """Be a slot for the agent at the other end, then return. Functions inherit the limit of open files."""
    name_process("rota-slot-fn")
    limit_files(file_limit)
    become_subreaper()
    FunctionSlot(socket.socket(fileno=connection.detach())).serve()

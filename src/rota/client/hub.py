"""What the futures of one client share: its session, the thread that keeps it connected, large values, REST.

One background thread has the loop on which messages come and go. The program's threads hand it tickets
through the session's inbox and wake it only if it isn't awake. In the other direction it lets futures end, a batch
at a time, and wakes those that wait for something else (room, an id, the connection) through one condition.
The thread keeps this hub alive, not the client: a client that is thrown away lets its hub finish and end.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, cast

import uvloop

from rota.client.base import FORKED, SHUT_DOWN, BaseHub, is_large
from rota.client.callables import Template
from rota.client.futures import Future, begin, cancel_all, finish
from rota.client.http import Json
from rota.client.link import Address
from rota.client.local import LocalCluster
from rota.client.session import Rejection, Ticket
from rota.core.errors import ClientClosed, RotaError

__all__ = ["RETRY_S", "Hub"]

RETRY_S: Final = 0.5
"""Between tries to bring or fetch a large value while the coordinator is away."""

FAREWELL_LOOK_S: Final = 0.5
"""Between looks, while closing, whether all that is left are cancelled tasks that nobody can be told of."""

EXIT_S_MAX: Final = 10.0
"""For what was submitted to be accepted, when the interpreter ends."""

LEAVE_S_MAX: Final = 2.0
"""For the thread to end then: it takes longer only where callbacks of the program's own hold it up."""

log = logging.getLogger("rota")

_hubs: weakref.WeakSet[Hub] = weakref.WeakSet()


class Hub(BaseHub):
    """The engine of one client, for any number of threads.

    Args:
        address: The coordinator.
        cluster: The coordinator's, if it is to end with this hub; large results are loaded before it does.
    """

    def __init__(self, address: Address, *, cluster: LocalCluster | None = None) -> None:
        super().__init__(address)
        self._cluster = cluster
        self._large: weakref.WeakSet[Future[Any]] = weakref.WeakSet()
        self._loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self._is_awake = False
        self._is_closing = False
        self._errands = 0
        self._is_over = False
        self._problem: str | None = None
        self._changed = threading.Condition()
        self._waiting = 0
        self._thread = threading.Thread(target=self._run, name="rota-client", daemon=True)
        _hubs.add(self)
        self._thread.start()

    @property
    def ends_with_program(self) -> bool:
        """Whether nobody else can ever ask for the results."""
        return self._cluster is not None and self._problem is not FORKED

    # Submitting -------------------------------------------------------------------------------

    def put(self, tickets: Sequence[Ticket]) -> None:
        """Submit. Waits while too many tasks wait to be accepted.

        Raises:
            RuntimeError: The client is closed, or is another process's.
            RotaError: The coordinator can't be spoken to, ever.
        """
        if self._problem is not None:
            self._raise_problem()
        session = self.session
        if session.is_full and threading.current_thread() is not self._thread:
            self._wait_for(lambda: not session.is_full or self._problem is not None, None)
            if self._problem is not None:
                self._raise_problem()
        session.put(tickets)
        if not self._is_awake:
            self._is_awake = True
            self._call_soon(self._pump)
        if self._is_over:  # it ended between the first look and now
            self._give_up()

    def bring(self, template: Template) -> bool:
        """Have the function of a template where workers can fetch it; return whether it was brought just now."""
        if self.is_brought(template):
            return False
        if self._problem is not None:
            self._raise_problem()
        self.bring_again(template)
        return True

    def follow(self, tickets: Sequence[Ticket]) -> None:
        """Wait for the end of tasks that others have submitted."""
        if self._problem is not None:
            self._raise_problem()
        self._call_soon(self._do, lambda: self.session.follow(tickets))
        if self._is_over:  # it ended between the first look and now
            with self._changed:
                self.session.follow(tickets)
            self._give_up()

    # For futures ------------------------------------------------------------------------------

    def cancel(self, tickets: Sequence[Ticket], *, forget: bool) -> None:
        for ticket in tickets:
            ticket.is_unwanted = True
            ticket.is_forgotten |= forget
        self._call_soon(self._do, lambda: self.session.cancel(tickets, forget=forget))

    def opened(self, envelope: bytes) -> bytes | memoryview:
        return self.blobs.opened(envelope)

    def check_may_wait(self) -> None:
        if threading.current_thread() is self._thread:
            raise RuntimeError("this would wait for ever: the callbacks of futures run where results are received")
        if self._problem is FORKED:
            raise RuntimeError(FORKED)

    def wait_until_known(self, ticket: Ticket, timeout: float | None) -> None:
        self._wait_for(lambda: ticket.seq is not None or ticket.verdict is not None or ticket.is_forgotten, timeout)

    def task(self, task_id: str) -> Json:
        return self.rest.task(task_id)

    def logs(self, task_id: str) -> str:
        return b"".join(self.rest.logs(task_id, {})).decode("utf-8", "replace")

    # The beginning and the end ----------------------------------------------------------------

    def connect(self, timeout: float) -> None:
        """Wait until the coordinator has let us in.

        Raises:
            RotaError: It has not, in time, or never will; the hub is closed then.
        """
        link = self.link
        self._wait_for(lambda: link.was_welcome or self._is_over, timeout)
        if not link.was_welcome:
            error = link.excuse
            self.close(cancel_futures=True, wait=True)
            raise error

    def close(self, *, cancel_futures: bool, wait: bool) -> None:
        """Take nothing more, and end when all tasks have ended; see `Client.shutdown`."""
        if self._problem is FORKED:
            return
        self._problem = self._problem or SHUT_DOWN
        self._call_soon(self._begin_end, cancel_futures)
        with self._changed:
            self._changed.notify_all()
        if wait and threading.current_thread() is not self._thread:
            self._thread.join()
            self.hang_up()

    def leave(self, timeout: float) -> bool:
        """Wait until all that was submitted is accepted, and have the thread end; return whether it is.

        A thread that runs on while the interpreter is torn down may crash it. What was accepted runs all the same.
        """
        if self._problem is FORKED:  # then there is no thread
            return True
        is_accepted = self._wait_for(
            lambda: self._is_over or not (self.session.has_undecided or self._errands), timeout
        )
        self._call_soon(self.link.stop)
        self._thread.join(LEAVE_S_MAX)
        return is_accepted

    def disown(self) -> None:
        """In a forked child: the thread is not here, and the connection is the parent's."""
        self._problem = FORKED
        self._changed = threading.Condition()

    # What the session tells, on the loop's thread -----------------------------------------------

    def ended(self, tickets: list[Ticket]) -> None:
        futures = cast("list[Future[Any]]", tickets)
        if self._cluster is not None:
            self._large.update(future for future in futures if is_large(future) and not future.done())
        finish(futures)

    def began(self, tickets: list[Ticket]) -> None:
        begin(cast("list[Future[Any]]", tickets))

    def accepted(self) -> None:
        """Those that wait for it look by themselves after each turn."""

    def refused(self, tickets: list[Ticket]) -> None:
        again: list[Ticket] = []
        final: list[Ticket] = []
        for ticket in tickets:
            (again if self.is_worth_resending(ticket) else final).append(ticket)
        finish(cast("list[Future[Any]]", final))
        if again:
            self._errands += 1
            threading.Thread(target=self._resend, args=(again,), name="rota-resend", daemon=True).start()

    def _resend(self, tickets: list[Ticket]) -> None:
        """Bring the functions of tickets once more, and submit them again."""
        try:
            for template in self.templates_of(tickets):
                self.bring_again(template)
        except Exception as error:  # whatever it is, these are waited for
            if not isinstance(error, RotaError):
                log.exception("a function could not be sent again")
            finish(cast("list[Future[Any]]", tickets))
        else:
            for ticket in tickets:
                ticket.verdict, ticket.is_resent = None, True
            self.session.put(tickets)
        self._call_soon(self._errand_done)
        if self._is_over:
            self._give_up()

    def _errand_done(self) -> None:
        self._errands -= 1
        self._pump()

    # The thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(self.link.run())
        except Exception:
            log.exception("the client's thread has failed")
        finally:
            self._problem = self._problem or SHUT_DOWN
            self._is_over = True
            self._give_up()
            if self._cluster is not None:
                self._end_cluster(self._cluster)
            with self._changed:
                self._changed.notify_all()
            self._loop.close()

    def _end_cluster(self, cluster: LocalCluster) -> None:
        """Load the large values that have come, which end with the cluster, and end it."""
        for future in list(self._large):
            with suppress(concurrent.futures.CancelledError):
                future.exception()
        cluster.stop()

    def _pump(self) -> None:
        self._is_awake = False  # first: what is put from here on wakes us again
        self.link.pump() if self.link.has_channel else self.session.take_in()
        self.turned()

    def _do(self, action: Callable[[], None]) -> None:
        self.session.take_in()
        action()
        self._pump()

    def _give_up(self) -> None:
        """Nothing more will be heard: let everything end that has not."""
        with self._changed:
            self.session.give_up(Rejection("client_closed", SHUT_DOWN))

    def _call_soon(self, callback: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def turned(self) -> None:
        """Something has happened: let those look who wait for it, and see whether all is done."""
        if self.link.failure is not None and self._problem is None:
            self._problem = str(self.link.failure)  # before futures end of it: who sees one end submits in vain
        if self._waiting:
            with self._changed:
                self._changed.notify_all()
        if self._is_closing and not self.session.has_open and not self._errands:
            self.link.stop()

    def _begin_end(self, cancel_futures: bool) -> None:
        self.session.take_in()
        if cancel_futures:
            cancel_all(cast("list[Future[Any]]", self.session.tickets()))
        if not self._is_closing:
            self._is_closing = True
            self._look_for_farewell()
        self._pump()

    def _look_for_farewell(self) -> None:
        """Don't wait for a coordinator that is away only to tell it of cancelled tasks."""
        if not self.link.has_channel and all(ticket.is_forgotten for ticket in self.session.tickets()):
            self.link.stop()
        elif not self.link.is_stopped:
            self._loop.call_later(FAREWELL_LOOK_S, self._look_for_farewell)

    # Waiting ------------------------------------------------------------------------------------

    def _wait_for(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until a condition holds that changes on the loop's thread; return whether it does."""
        with self._changed:
            self._waiting += 1
            try:
                return self._changed.wait_for(condition, timeout)
            finally:
                self._waiting -= 1

    def be_patient(self, error: RotaError) -> None:
        """A large value could not be brought or fetched: the coordinator is away, or has no room.

        Not in callbacks: while they wait on the thread that receives, nobody hears that the coordinator is back.
        """
        if threading.current_thread() is self._thread or self._wait_for(lambda: self._is_over, RETRY_S):
            raise error

    def _raise_problem(self) -> None:
        assert self._problem is not None
        if self._problem in (SHUT_DOWN, FORKED):
            raise RuntimeError(self._problem)
        failure = self.link.failure or ClientClosed(self._problem)
        raise failure.with_traceback(None)  # one object for all: its tracebacks would add up


def _disown_all() -> None:
    for hub in list(_hubs):
        hub.disown()


def _flush_all() -> None:
    """The interpreter ends: what was submitted is to be on record. Its results are for another time.

    A cluster that ends with this program is waited for, as the standard library's executors are.
    """
    give_up_at = time.monotonic() + EXIT_S_MAX
    for hub in list(_hubs):
        if hub.ends_with_program:
            hub.close(cancel_futures=False, wait=True)
        elif not hub.leave(max(0.0, give_up_at - time.monotonic())):
            log.warning("some tasks were not accepted before this program ended: %s is away", hub.address.url)


os.register_at_fork(after_in_child=_disown_all)
atexit.register(_flush_all)

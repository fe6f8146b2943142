"""`Future`: the standard library's, made for a hundred thousand of them.

It can be given to ``concurrent.futures.wait`` and ``as_completed``, to ``asyncio.wrap_future`` and to whatever
else takes one. What differs is the cost: the standard library makes a condition for each future (1.5 µs),
this one makes it when somebody asks for it. Values and exceptions are made of their bytes by the thread that
asks for them first, not by the one that receives them.

States change under one lock of the process, `_lock`, and under the future's condition as well if that was made: the
standard library's functions look at ``_state`` and ``_waiters`` under the condition alone. The condition is always
taken first. What is cancelled is told at once to those that wait (``CANCELLED_AND_NOTIFIED``), since nothing of
ours comes by later to do so.
"""

from __future__ import annotations

import concurrent.futures
import logging
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, InvalidStateError
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING, _Waiter
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

from rota.client.http import Json
from rota.client.notebook import future_html
from rota.client.session import Rejection, Ticket
from rota.client.verdicts import error_of, value_of
from rota.core.client_protocol import Outcome
from rota.core.model import TaskId, TaskState, generated_task_id

__all__ = ["Future", "FutureHome", "begin", "cancel_all", "finish", "stop_all"]

log = logging.getLogger("rota")

R = TypeVar("R")

_OPEN: Final = (PENDING, RUNNING)
_DONE: Final = (FINISHED, CANCELLED_AND_NOTIFIED)

_lock = threading.Lock()


def _renew_lock() -> None:
    """In a forked child: whoever held the lock is not there to let it go."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


class FutureHome(Protocol):
    """What a future needs of its client."""

    def cancel(self, tickets: Sequence[Ticket], *, forget: bool) -> None:
        """Tell the coordinator that these are to end."""
        ...

    def opened(self, envelope: bytes) -> bytes | memoryview:
        """The envelope that holds the value, fetched if this one only names a blob."""
        ...

    def check_may_wait(self) -> None:
        """Raise `RuntimeError` if this thread would wait for ever."""
        ...

    def wait_until_known(self, ticket: Ticket, timeout: float | None) -> None:
        """Wait until the task has its id, or will have none."""
        ...

    def task(self, task_id: str) -> Json:
        """The task as REST shows it."""
        ...

    def logs(self, task_id: str) -> str:
        """What the task wrote."""
        ...


class Future(Ticket, concurrent.futures.Future[R]):
    """The result of a task, as soon as there is one.

    Made by `Client.submit` and by what is built on it.
    """

    # Values until they are set: making a future is two stores.
    _state: str = PENDING
    _result: Any = None
    _exception: BaseException | None = None
    _is_loaded = False
    _is_watched = False
    """Whether anybody is to be told of the end."""
    _condition_made: threading.Condition | None = None
    _waiters_made: list[Any] | None = None
    _callbacks: list[Callable[[concurrent.futures.Future[R]], object]] | None = None

    def __init__(self, home: FutureHome, template: bytes, args: bytes | None) -> None:
        # The base's is not called: it would make a condition and two lists.
        self._home = home
        self.template = template
        self.args = args

    # What the standard library looks at -------------------------------------------------------

    if not TYPE_CHECKING:  # there they are attributes, and must be to those who check types

        @property
        def _condition(self) -> threading.Condition:
            with _lock:
                if self._condition_made is None:
                    self._condition_made = threading.Condition()
                    self._is_watched = True
                return self._condition_made

        @property
        def _waiters(self) -> list[Any]:
            if self._waiters_made is None:
                self._waiters_made = []
            return self._waiters_made

    # The results ------------------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> R:
        """Return what the function returned, when it has.

        Args:
            timeout: Seconds to wait at most.

        Raises:
            TimeoutError: It has not ended yet.
            CancelledError: It was cancelled.
            TaskFailed: It ended without having returned or raised.
            BaseException: Whatever the function raised.
        """
        try:
            if not self._is_loaded:
                self._load(timeout)
            if self._exception is not None:
                raise self._exception
            return cast(R, self._result)
        finally:
            # The exception's traceback holds this frame.
            del self

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the function raised, when it has ended, or ``None`` if it returned; else as `result`."""
        if not self._is_loaded:
            self._load(timeout)
        return self._exception

    def _load(self, timeout: float | None) -> None:
        """Make the value or the exception of what came."""
        if self._state is not FINISHED:
            self._wait(timeout)
            if self._state is not FINISHED:
                raise CancelledError
        verdict = self.verdict
        if verdict is None:
            return  # another thread was faster
        value: Any = None
        error: BaseException | None = None
        if verdict.__class__ is Outcome and verdict.state is TaskState.COMPLETED:
            try:
                value = value_of(verdict, self._home.opened)
            except Exception as failed:  # noqa: BLE001 - a foreign class may raise anything: it is the result
                error = failed
        else:
            error = error_of(verdict, self._home.opened)
        with _lock:
            if not self._is_loaded:  # by another thread meanwhile: all are given the same object
                self._result, self._is_loaded = value, True
                if error is not None:
                    self._exception = error
                if verdict.__class__ is Outcome:
                    self.verdict = None  # its bytes are not needed any more

    def _wait(self, timeout: float | None) -> None:
        if self._state in _DONE:
            return
        self._home.check_may_wait()
        sleeper = _Sleeper()
        with _lock:
            if self._state in _DONE:
                return
            self._waiters.append(sleeper)
            self._is_watched = True
        try:
            if not sleeper.sleep(timeout):
                raise TimeoutError(self._why_not_yet(timeout))
        finally:
            with _lock:
                self._waiters.remove(sleeper)

    def _why_not_yet(self, timeout: float | None) -> str:
        text = f"{self!r} has not ended within {timeout:.3g} s"
        is_waiting = self._state is PENDING and self.seq is not None
        return f"{text}; info()['reason_text'] says what it waits for" if is_waiting else text

    # States ------------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """Cancel the task unless it is known to run; return whether it is cancelled. See `stop`."""
        cancel_all((self,))
        return self._state is CANCELLED_AND_NOTIFIED

    def stop(self) -> bool:
        """Cancel the task also if it runs: it is told to end, and killed if it doesn't in time.

        The future of one that runs is cancelled when the task has ended.

        Returns:
            Whether there was anything to cancel: ``False`` if it has ended.
        """
        if self.cancel():
            return True
        if self._state in _DONE:
            return False
        self._home.cancel((self,), forget=False)
        return True

    def cancelled(self) -> bool:
        """Return whether it was cancelled."""
        return self._state is CANCELLED_AND_NOTIFIED

    def running(self) -> bool:
        """Return whether it is known to run. Of tasks that take a few milliseconds this is not told."""
        return self._state is RUNNING

    def done(self) -> bool:
        """Return whether it has ended or was cancelled."""
        return self._state in _DONE

    def add_done_callback(self, fn: Callable[[concurrent.futures.Future[R]], object]) -> None:
        """Call ``fn`` with this future when it has ended, or now if it has.

        It is called by the thread that receives all results: it should be quick, and must not wait.
        """
        with _lock:
            if self._state not in _DONE:
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(fn)
                self._is_watched = True
                return
        _call(fn, self)

    def set_running_or_notify_cancel(self) -> bool:
        """For executors and tests, as in the standard library."""
        with self._condition, _lock:
            if self._state is CANCELLED_AND_NOTIFIED:
                return False
            if self._state is not PENDING:
                raise RuntimeError(f"{self!r} can't begin")
            self._state = RUNNING
            return True

    def set_result(self, result: R) -> None:
        """For executors and tests, as in the standard library."""
        self._set(result, None)

    def set_exception(self, exception: BaseException | None) -> None:
        """For executors and tests, as in the standard library."""
        self._set(None, exception)

    def _set(self, result: R | None, exception: BaseException | None) -> None:
        if self._state in _DONE:
            raise InvalidStateError(f"{self._state}: {self!r}")
        self._result, self._exception, self._is_loaded = result, exception, True
        self._close(PENDING, RUNNING, into=FINISHED)

    def _close(self, *states: str, into: str = CANCELLED_AND_NOTIFIED) -> bool:
        """End, if it is in one of these states; return whether it was."""
        with self._condition:
            with _lock:
                if self._state not in states:
                    return False
                self._state = into
            self._wake()
            self._condition.notify_all()
        self._call_back()
        return True

    def _wake(self) -> None:
        """Tell those that wait. Under the condition, if there is one."""
        is_cancelled = self._state is CANCELLED_AND_NOTIFIED
        failed = not is_cancelled and not self._is_success()
        for waiter in list(self._waiters_made or ()):  # a copy: one whose time is over may leave meanwhile
            if is_cancelled:
                waiter.add_cancelled(self)
            elif failed:
                waiter.add_exception(self)
            else:
                waiter.add_result(self)

    def _is_success(self) -> bool:
        verdict = self.verdict
        if isinstance(verdict, Outcome):
            return verdict.state is TaskState.COMPLETED
        return verdict is None and self._exception is None

    def _call_back(self) -> None:
        with _lock:
            callbacks, self._callbacks = self._callbacks, None
        for fn in callbacks or ():
            _call(fn, self)

    # The task ----------------------------------------------------------------------------------

    @property
    def id(self) -> TaskId | None:
        """The task's id; ``None`` as long as the coordinator has not said it. See `task_id`."""
        return None if self.seq is None else generated_task_id(self.seq)

    def task_id(self, timeout: float | None = None) -> TaskId:
        """Return the task's id, when the coordinator has accepted it.

        Raises:
            TimeoutError: It was not accepted in time.
            CancelledError: It was cancelled before.
            RotaError: It was refused.
        """
        if self.seq is None and self._state not in _DONE:
            self._home.check_may_wait()
            self._home.wait_until_known(self, timeout)
        if self.seq is None:
            if isinstance(self.verdict, Rejection):
                raise error_of(self.verdict, self._home.opened)
            if self._state is CANCELLED_AND_NOTIFIED:
                raise CancelledError
            raise TimeoutError(f"the task was not accepted within {timeout:g} s")
        return generated_task_id(self.seq)

    def info(self) -> Json:
        """Return the task as the REST API shows it: state, times, attempts, what it used."""
        return self._home.task(self.task_id())

    def logs(self) -> str:
        """Return what the task has written so far."""
        return self._home.logs(self.task_id())

    def __repr__(self) -> str:
        return f"<rota.Future {self._name()}: {self._words()}>"

    def _repr_html_(self) -> str:
        words = {PENDING: "pending", RUNNING: "running", CANCELLED_AND_NOTIFIED: "cancelled"}
        state = words.get(self._state) or ("completed" if self._is_success() else "failed")
        return future_html(id=self.id, state=state, message=self._words() if self._state is FINISHED else None)

    def _name(self) -> str:
        return self.id or "(not accepted yet)"

    def _words(self) -> str:
        if self._state is CANCELLED_AND_NOTIFIED:
            return "cancelled"
        if self._state is FINISHED:
            if self._is_loaded and self._exception is None:
                return f"returned {type(self._result).__name__}"
            if self._is_loaded:
                return f"raised {type(self._exception).__name__}"
            return "completed" if self._is_success() else "failed"
        return self._state.lower()


class _Sleeper(_Waiter):
    """One thread that waits for one future."""

    __slots__ = ("_alarm",)

    def __init__(self) -> None:
        self._alarm = threading.Lock()
        self._alarm.acquire()

    def sleep(self, timeout: float | None) -> bool:
        """Wait; return whether it was told."""
        if timeout is None:
            return self._alarm.acquire()
        return self._alarm.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX))

    def add_result(self, future: object) -> None:  # noqa: ARG002 - the standard library fixes the name
        self._alarm.release()

    def add_exception(self, future: object) -> None:
        self.add_result(future)

    def add_cancelled(self, future: object) -> None:
        self.add_result(future)


def finish(futures: Iterable[Future[Any]]) -> None:
    """Let futures end with the verdicts that they have. Those that have ended already stay as they are."""
    heard: list[Future[Any]] = []
    watched: list[Future[Any]] = []
    with _lock:
        for future in futures:
            if future._is_watched:  # noqa: SLF001 - a part of Future: so are all below
                if future._condition_made is not None:  # noqa: SLF001 - as above
                    watched.append(future)
                    continue
                if future._state in _OPEN:  # noqa: SLF001 - as above; who cancelled it has told those that wait
                    heard.append(future)
            if future._state in _OPEN:  # noqa: SLF001 - as above
                future._state = _state_of(future.verdict)  # noqa: SLF001 - as above
    for future in heard:
        future._wake()  # noqa: SLF001 - as above
        future._call_back()  # noqa: SLF001 - as above
    for future in watched:
        future._close(PENDING, RUNNING, into=_state_of(future.verdict))  # noqa: SLF001 - as above


def begin(futures: Iterable[Future[Any]]) -> None:
    """Futures are known to run."""
    with _lock:
        for future in futures:
            if future._state is PENDING:  # noqa: SLF001 - a part of Future
                future._state = RUNNING  # noqa: SLF001 - as above


def cancel_all(futures: Iterable[Future[Any]]) -> None:
    """Cancel those futures of one client that are not known to run, and tell the coordinator once."""
    cancelled: list[Future[Any]] = []
    watched: list[Future[Any]] = []
    with _lock:
        for future in futures:
            if future._condition_made is not None:  # noqa: SLF001 - a part of Future: so are all below
                watched.append(future)
            elif future._state is PENDING:  # noqa: SLF001 - as above
                future._state = CANCELLED_AND_NOTIFIED  # noqa: SLF001 - as above
                cancelled.append(future)
    for future in cancelled:
        if future._is_watched:  # noqa: SLF001 - as above
            future._wake()  # noqa: SLF001 - as above
            future._call_back()  # noqa: SLF001 - as above
    cancelled += [future for future in watched if future._close(PENDING)]  # noqa: SLF001 - as above
    if cancelled:
        cancelled[0]._home.cancel(cancelled, forget=True)  # noqa: SLF001 - as above


def stop_all(futures: Iterable[Future[Any]]) -> None:
    """Cancel those futures of one client that have not ended, and have ended what runs of them."""
    left = list(futures)
    cancel_all(left)
    running = [future for future in left if not future.done()]
    if running:
        running[0]._home.cancel(running, forget=False)  # noqa: SLF001 - a part of Future


def _state_of(verdict: Outcome | Rejection | None) -> str:
    if verdict.__class__ is Outcome and verdict.state is TaskState.CANCELLED:
        return CANCELLED_AND_NOTIFIED
    return FINISHED


def _call(fn: Callable[[Future[R]], object], future: Future[R]) -> None:
    try:
        fn(future)
    except KeyboardInterrupt:
        raise
    except BaseException:  # what a function raised, `SystemExit` say, must not end the thread that receives all results
        log.exception("a callback of %r failed", future)

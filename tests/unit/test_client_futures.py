"""Futures by themselves: states, waiting, callbacks, and what the standard library does with them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, CancelledError, InvalidStateError
from typing import Any

import pytest

from rota.client.futures import Future, _Sleeper, begin, finish
from rota.client.http import Json
from rota.client.session import Rejection, Ticket
from rota.core.client_protocol import Outcome
from rota.core.errors import BadRequest, NotFound, TaskFailed
from rota.core.model import Cause, TaskSeq, TaskState, WorkerId
from rota.functions.failure import RemoteTraceback, dump_failure
from rota.functions.pickling import dump_value
from tests.support.waiting import wait_until


class Home:
    """What a future needs of its client."""

    def __init__(self) -> None:
        self.cancelled: list[tuple[list[Ticket], bool]] = []

    def cancel(self, tickets: Sequence[Ticket], *, forget: bool) -> None:
        self.cancelled.append((list(tickets), forget))

    def opened(self, envelope: bytes) -> bytes | memoryview:
        if envelope.startswith(b"\x02"):
            raise NotFound("the value is gone")
        return envelope

    def check_may_wait(self) -> None:
        pass

    def wait_until_known(self, ticket: Ticket, timeout: float | None) -> None:
        wait_until(lambda: ticket.seq is not None, what="an id", timeout_s=timeout or 5.0)

    def task(self, task_id: str) -> Json:
        return {"id": task_id}

    def logs(self, task_id: str) -> str:
        return f"output of {task_id}"


def pending(home: Home | None = None) -> Future[object]:
    return Future(home or Home(), b"template", b"args")


def outcome(state: TaskState = TaskState.COMPLETED, value: bytes = b"", **fields: Any) -> Outcome:
    return Outcome(TaskSeq(7), state, fields.pop("cause", None), value, **fields)


def returned(value: object) -> Outcome:
    return outcome(value=b"".join(dump_value(value)))


def raised(error: BaseException) -> Outcome:
    return outcome(TaskState.FAILED, b"".join(dump_failure(error)), cause=Cause.ERROR, message=str(error))


def ended(verdict: Outcome | Rejection, home: Home | None = None) -> Future[object]:
    future = pending(home)
    end(future, verdict)
    return future


def end(future: Future[object], verdict: Outcome | Rejection) -> None:
    future.verdict = verdict
    finish([future])


# Results


def test_value_is_what_the_function_returned_and_the_same_object_each_time() -> None:
    future = ended(returned([1, 2]))
    assert future.result() == [1, 2]
    assert future.result() is future.result(0)
    assert (future.exception(), future.done(), future.cancelled(), future.running()) == (None, True, False, False)


def test_task_that_is_no_function_returns_nothing() -> None:
    assert ended(outcome()).result() is None


def test_exception_is_the_functions_own_with_its_traceback_as_cause() -> None:
    future = ended(raised(KeyError("x")))
    with pytest.raises(KeyError, match="x") as caught:
        future.result()
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert future.exception() is caught.value


@pytest.mark.parametrize(
    "fields,words",
    [
        ({"cause": Cause.SIGNAL, "signal": 11}, "task t7 was killed by SIGSEGV on w1"),
        ({"cause": Cause.EXIT, "exit_code": 3}, "task t7 exited with code 3 on w1"),
        ({"cause": Cause.TIMEOUT}, "task t7 was over its time"),
        ({"cause": Cause.OOM, "message": "limit 64 MiB"}, "needed more memory.* on w1: limit 64 MiB"),
        ({"cause": Cause.WORKER_LOST}, "was lost with its worker"),
    ],
)
def test_end_without_an_exception_says_what_happened(fields: dict[str, Any], words: str) -> None:
    future = ended(outcome(TaskState.FAILED, worker=WorkerId("w1"), **fields))
    with pytest.raises(TaskFailed, match=words) as caught:
        future.result()
    failed = caught.value
    assert (failed.task_id, failed.cause, failed.worker) == ("t7", fields["cause"], "w1")
    assert (failed.signal, failed.exit_code) == (fields.get("signal"), fields.get("exit_code"))
    assert not isinstance(failed, TimeoutError)


def test_task_that_timed_out_is_no_wait_that_timed_out() -> None:
    future = ended(outcome(TaskState.FAILED, cause=Cause.TIMEOUT))
    assert isinstance(future.exception(), TaskFailed)
    assert not isinstance(future.exception(), TimeoutError)


def test_refused_task_says_why() -> None:
    with pytest.raises(BadRequest, match="no such queue"):
        ended(Rejection("bad_spec", "no such queue")).result()


def test_value_that_cannot_be_loaded_is_the_exception_everywhere() -> None:
    future = ended(outcome(value=b"\x00garbage"))
    error = future.exception()
    assert error is not None
    with pytest.raises(type(error)):
        future.result()
    assert "task t7" in error.__notes__[0]


def test_value_whose_blob_is_gone_says_so() -> None:
    with pytest.raises(NotFound, match="the value is gone"):
        ended(outcome(value=b"\x02" + bytes(40))).result()


# Waiting


def test_result_waits_for_the_end() -> None:
    future = pending()
    threading.Timer(0.02, end, (future, returned(5))).start()
    assert future.result(5.0) == 5


def test_waiting_ends_with_its_time() -> None:
    future = pending()
    for ask in (future.result, future.exception):
        with pytest.raises(TimeoutError):
            ask(0.01)
    end(future, returned(1))
    assert future.result(0) == 1


def test_many_threads_wait_for_one_future_and_get_one_object() -> None:
    future = pending()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(future.result, 10.0) for _ in range(8)]
        end(future, returned([1]))
        assert len({id(one.result()) for one in asked}) == 1


def test_what_has_ended_is_not_cancelled_and_what_was_cancelled_does_not_end_again() -> None:
    home = Home()
    future = ended(returned(1), home)
    assert not future.cancel()
    assert home.cancelled == []
    other = pending(home)
    other.cancel()
    end(other, returned(1))
    assert other.cancelled()


# Cancelling


def test_pending_future_is_cancelled_at_once_and_the_coordinator_is_told() -> None:
    home = Home()
    future = pending(home)
    assert future.cancel()
    assert future.cancel()
    assert home.cancelled == [([future], True)]
    assert (future.cancelled(), future.done()) == (True, True)
    for ask in (future.result, future.exception):
        with pytest.raises(CancelledError):
            ask()


def test_running_future_is_not_cancelled_but_stopped() -> None:
    home = Home()
    future = pending(home)
    begin([future])
    assert future.running()
    assert not future.cancel()
    assert home.cancelled == []
    assert future.stop()
    assert home.cancelled == [([future], False)]
    assert not future.done()
    end(future, outcome(TaskState.CANCELLED, cause=Cause.CANCELLED))
    assert future.cancelled()
    assert future.stop() is True or future.cancelled()


def test_stop_after_the_end_says_that_there_was_nothing_to_stop() -> None:
    assert not ended(returned(1)).stop()


def test_cancelling_wakes_those_that_wait() -> None:
    future = pending()
    threading.Timer(0.02, future.cancel).start()
    with pytest.raises(CancelledError):
        future.result(5.0)


# Callbacks


def test_end_that_comes_on_the_heels_of_a_cancellation_is_not_told_to_those_that_wait() -> None:
    future = pending()
    sleeper = _Sleeper()  # of a thread that was told, and has not come to run since
    future._waiters.append(sleeper)
    future._is_watched = True
    assert future.cancel()
    end(future, returned(1))
    assert sleeper.sleep(0.0)
    assert not sleeper.sleep(0.0)


def test_callbacks_are_called_in_order_once_the_future_is_done() -> None:
    heard: list[object] = []
    future = pending()
    future.add_done_callback(lambda f: heard.append((1, f.result())))
    future.add_done_callback(lambda f: heard.append((2, f is future)))
    end(future, returned("x"))
    future.add_done_callback(lambda _: heard.append(3))
    assert heard == [(1, "x"), (2, True), 3]


def test_callback_that_raises_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[int] = []
    future = pending()
    future.add_done_callback(lambda _: 1 / 0)
    future.add_done_callback(lambda _: heard.append(1))
    end(future, returned(1))
    assert heard == [1]
    assert "ZeroDivisionError" in caplog.text


# The standard library's functions


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), GeneratorExit()])
def test_callback_that_gets_what_ends_threads_harms_nobody(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """A callback asks for the result of a function that has called ``sys.exit``, say."""
    called, futures = list[object](), [pending(), pending()]
    futures[0].add_done_callback(lambda future: future.result())
    futures[0].add_done_callback(called.append)
    futures[1].add_done_callback(called.append)
    for future, verdict in zip(futures, (raised(error), returned(2)), strict=True):
        future.verdict = verdict
    finish(futures)
    assert called == futures
    assert "a callback of" in caplog.text


@pytest.mark.parametrize("is_late", [False, True])
def test_wait_for_all(*, is_late: bool) -> None:
    futures = [pending() for _ in range(3)]

    def finish_all() -> None:
        for number, future in enumerate(futures[:2]):
            end(future, returned(number))
        futures[2].cancel()

    if is_late:
        threading.Timer(0.02, finish_all).start()
    else:
        finish_all()
    done, not_done = concurrent.futures.wait(futures, timeout=5.0, return_when=ALL_COMPLETED)
    assert (done, not_done) == (set(futures), set())


def test_wait_for_the_first() -> None:
    futures = [pending(), pending()]
    threading.Timer(0.02, end, (futures[1], returned(1))).start()
    done, not_done = concurrent.futures.wait(futures, timeout=5.0, return_when=FIRST_COMPLETED)
    assert (done, not_done) == ({futures[1]}, {futures[0]})


def test_wait_for_the_first_exception() -> None:
    futures = [pending(), pending(), pending()]

    def finish_two() -> None:
        end(futures[0], returned(1))
        end(futures[1], raised(ValueError("x")))

    threading.Timer(0.02, finish_two).start()
    done, not_done = concurrent.futures.wait(futures, timeout=5.0, return_when=FIRST_EXCEPTION)
    assert (done, not_done) == (set(futures[:2]), {futures[2]})


def test_wait_whose_time_is_over_leaves_the_futures_as_they_were() -> None:
    futures = [ended(returned(1)), pending()]
    done, not_done = concurrent.futures.wait(futures, timeout=0.01)
    assert (done, not_done) == ({futures[0]}, {futures[1]})
    end(futures[1], returned(2))
    assert futures[1].result() == 2


def test_as_completed_gives_futures_as_they_end() -> None:
    futures = [pending() for _ in range(3)]
    iterator = concurrent.futures.as_completed(futures, timeout=5.0)
    end(futures[1], returned(1))
    assert next(iterator) is futures[1]
    threading.Timer(0.02, futures[2].cancel).start()
    assert next(iterator) is futures[2]
    finish_later = threading.Timer(0.02, end, (futures[0], returned(0)))
    finish_later.start()
    assert list(iterator) == [futures[0]]


def test_as_completed_mixes_with_the_standard_librarys_own() -> None:
    ours, theirs = pending(), concurrent.futures.Future[object]()
    threading.Timer(0.02, end, (ours, returned(1))).start()
    threading.Timer(0.04, theirs.set_result, (2,)).start()
    assert {one.result() for one in concurrent.futures.as_completed([ours, theirs], timeout=5.0)} == {1, 2}


async def test_asyncio_awaits_one() -> None:
    future = pending()
    threading.Timer(0.02, end, (future, returned(6))).start()
    assert await asyncio.wrap_future(future) == 6


async def test_asyncio_gets_the_exception() -> None:
    future = pending()
    threading.Timer(0.02, end, (future, raised(ValueError("seven")))).start()
    with pytest.raises(ValueError, match="seven"):
        await asyncio.wrap_future(future)


async def test_asyncio_gets_an_exception_if_the_value_cannot_be_loaded() -> None:
    future = pending()
    wrapped = asyncio.wrap_future(future)
    threading.Timer(0.02, end, (future, outcome(value=b"\x00\xff"))).start()
    with pytest.raises(Exception, match="invalid load key"):
        await asyncio.wait_for(wrapped, 5.0)


async def test_asyncio_cancels_one() -> None:
    home = Home()
    future = pending(home)
    wrapped = asyncio.wrap_future(future)
    wrapped.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wrapped
    await asyncio.sleep(0)  # asyncio passes it on in the loop's next turn
    assert future.cancelled()


def test_setters_behave_as_in_the_standard_library() -> None:
    future = pending()
    assert future.set_running_or_notify_cancel()
    assert future.running()
    future.set_result(3)
    assert future.result() == 3
    with pytest.raises(InvalidStateError):
        future.set_result(4)
    with pytest.raises(InvalidStateError):
        future.set_exception(ValueError())
    failed = pending()
    failed.set_exception(ValueError("x"))
    assert isinstance(failed.exception(), ValueError)
    cancelled = pending()
    cancelled.cancel()
    assert not cancelled.set_running_or_notify_cancel()


def test_futures_end_while_others_begin_to_wait_and_give_up() -> None:
    """No end is missed, whichever way of waiting meets it."""
    futures = [pending() for _ in range(2_000)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        waits: list[concurrent.futures.Future[Any]] = [
            pool.submit(concurrent.futures.wait, futures, 20.0),
            pool.submit(concurrent.futures.wait, reversed(futures), 20.0),
            pool.submit(lambda: [one.result(20.0) for one in futures]),
        ]
        for start in range(0, len(futures), 100):
            for future in futures[start : start + 100]:
                future.verdict = returned(1)
            finish(futures[start : start + 100])
        for waiting in waits:
            waiting.result(20.0)


# The task behind it


def test_future_knows_its_task_once_it_is_accepted() -> None:
    future = pending()
    assert "not accepted" in repr(future)
    threading.Timer(0.02, setattr, (future, "seq", TaskSeq(7))).start()
    assert future.task_id(5.0) == future.id == "t7"
    assert (future.info(), future.logs()) == ({"id": "t7"}, "output of t7")


def test_refused_future_says_why_it_has_no_id_also_after_its_end_was_looked_at() -> None:
    future = ended(Rejection("bad_spec", "it makes no sense"))
    for _ in range(2):
        with pytest.raises(BadRequest, match="it makes no sense"):
            future.result()
        with pytest.raises(BadRequest, match="it makes no sense"):
            future.task_id()
    assert future.id is None


def test_refused_future_has_no_id() -> None:
    future = ended(Rejection("bad_spec", "no such queue"))
    with pytest.raises(BadRequest, match="no such queue"):
        future.task_id()


@pytest.mark.parametrize(
    "verdict,words",
    [(returned([1]), "returned list"), (raised(ValueError()), "raised ValueError"), (None, "pending")],
)
def test_future_shows_how_it_stands(verdict: Outcome | None, words: str) -> None:
    future = pending()
    future.seq = TaskSeq(7)
    if verdict is not None:
        end(future, verdict)
        future.exception()
    assert repr(future) == f"<rota.Future t7: {words}>"

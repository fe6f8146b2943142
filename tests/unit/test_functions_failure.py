"""Exceptions on their way back: as themselves wherever that is possible, told of in words otherwise."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from rota.functions.failure import LostException, RemoteTraceback, describe_failure, dump_failure, load_failure


class OddInit(Exception):
    """Takes other arguments than it hands on: the usual pickle of it can't be loaded."""

    def __init__(self, code: int, *, why: str) -> None:
        super().__init__(f"odd {code}")
        self.code = code
        self.why = why


class Doubling(Exception):
    """Made again the usual way it would say "went wrong: went wrong: 3"."""

    def __init__(self, what: object) -> None:
        super().__init__(f"went wrong: {what}")


class Unwilling(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("not me")

    def __init__(self, lock: object) -> None:
        super().__init__(lock)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def raised(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as error:  # noqa: BLE001 - the test wants whatever there is
        return error
    raise AssertionError("nothing was raised")


def travelled(error: BaseException) -> tuple[BaseException | None, str]:
    return load_failure(b"".join(dump_failure(error)))


def came_back(error: BaseException) -> BaseException:
    back, _ = travelled(error)
    assert back is not None
    return back


def divide() -> float:
    return 1 / 0


def test_exception_comes_back_as_itself_with_the_remote_traceback_as_its_cause() -> None:
    back = came_back(raised(divide))
    assert type(back) is ZeroDivisionError
    assert isinstance(back.__cause__, RemoteTraceback)
    assert "in divide" in back.__cause__.text
    assert "in divide" in "".join(traceback.format_exception(back))


def test_original_cause_hangs_on_the_remote_traceback() -> None:
    def fail() -> None:
        try:
            dict[str, int]()["a"]
        except KeyError as error:
            raise ValueError("bad") from error

    back = came_back(raised(fail))
    assert back.__cause__ is not None
    assert isinstance(back.__cause__.__cause__, KeyError)
    assert isinstance(back.__context__, KeyError)


def test_notes_are_kept() -> None:
    error = ValueError("bad")
    error.add_note("look at line 7")
    assert came_back(error).__notes__ == ["look at line 7"]


def test_group_comes_back_with_its_members_and_their_causes() -> None:
    cause = OSError(2, "no such file", "a.txt")
    member = OddInit(7, why="because")
    member.__cause__ = cause
    back = came_back(ExceptionGroup("several", [ValueError(1), member]))
    assert isinstance(back, ExceptionGroup)
    assert back.exceptions[0].args == (1,)
    odd = back.exceptions[1]
    assert isinstance(odd, OddInit)
    assert (odd.code, odd.why) == (7, "because")
    assert isinstance(odd.__cause__, FileNotFoundError)
    assert odd.__cause__.filename == "a.txt"


def test_member_that_cannot_travel_is_told_of_in_its_place() -> None:
    back = came_back(ExceptionGroup("several", [ValueError(1), ValueError(threading.Lock())]))
    assert isinstance(back, ExceptionGroup)
    assert isinstance(back.exceptions[1], LostException)
    assert "lock" in str(back.exceptions[1])


def test_cause_that_cannot_travel_does_not_hold_up_the_exception() -> None:
    error = KeyError("a")
    error.__context__ = ValueError(threading.Lock())
    back = came_back(error)
    assert type(back) is KeyError
    assert isinstance(back.__context__, LostException)


def test_init_that_takes_other_arguments_is_no_obstacle() -> None:
    back = came_back(OddInit(3, why="x"))
    assert isinstance(back, OddInit)
    assert (back.code, back.why, str(back)) == (3, "x", "odd 3")


def test_message_made_in_init_is_not_made_twice() -> None:
    assert str(came_back(Doubling(3))) == "went wrong: 3"


def test_exception_that_cannot_be_pickled_comes_back_in_words() -> None:
    back, text = travelled(raised(lambda: (_ for _ in ()).throw(Unwilling(threading.Lock()))))
    assert back is None
    assert "Unwilling" in text


def test_text_is_there_when_the_class_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    envelope = b"".join(dump_failure(came_back(raised(lambda: (_ for _ in ()).throw(UnicodeError("x"))))))
    broken = envelope.replace(b"UnicodeError", b"UnicodeWrror")
    back, text = load_failure(broken)
    assert back is None
    assert "could not be made here" in text


def test_garbage_is_told_of() -> None:
    back, text = load_failure(b"\x00nonsense")
    assert back is None
    assert "could not be made here" in text


def test_exceptions_that_hang_on_each_other_in_a_circle_travel() -> None:
    one, two = ValueError(1), KeyError(2)
    one.__context__, two.__context__ = two, one
    back = came_back(one)
    assert back.__context__ is not None
    assert back.__context__.__context__ is back


def test_very_long_traceback_loses_its_middle() -> None:
    _, text = travelled(ValueError("x" * 100_000))
    assert len(text) < 40_000
    assert "characters left out" in text


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no")]
)
def test_unusual_exceptions_travel(error: BaseException) -> None:
    back = came_back(error)
    assert type(back) is type(error)
    assert str(back) == str(error)


def test_description_is_one_line_of_bounded_length() -> None:
    assert describe_failure(ValueError("a\nb")) == "ValueError: a b"
    assert len(describe_failure(ValueError("x" * 5000))) == 1000


def test_description_of_what_is_no_unicode_can_be_encoded() -> None:
    assert describe_failure(ValueError("caf\udce9")).encode() == rb"ValueError: caf\udce9"


class Obstinate(Exception):
    """Leaves by the emergency exit when somebody wants to pickle it."""

    def __reduce_ex__(self, protocol: object) -> tuple[object, ...]:
        raise SystemExit(3)


def test_exception_that_ends_programs_while_it_is_pickled_travels_all_the_same() -> None:
    assert isinstance(came_back(Obstinate("no")), Obstinate)


def test_exception_without_words_is_described_by_its_type() -> None:
    assert "Mute" in describe_failure(Mute())

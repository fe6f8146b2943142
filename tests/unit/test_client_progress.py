"""Bars where somebody looks, nothing where nobody does, and what notebooks show of our things."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from tqdm import tqdm

from rota.client.futures import Future as RotaFuture
from rota.client.notebook import bar_html, client_html, future_html, in_notebook, job_html
from rota.client.progress import progress
from rota.core.model import TaskSeq


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Called by the test itself: between a fixture and its test, pytest puts its own standard error in place."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return screen


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """IPython as in a notebook: with a kernel."""
    made = InteractiveShell.instance()
    made.kernel = object()  # type: ignore[attr-defined]  # what ipykernel's shell has
    yield made
    made.history_manager.end_session()  # type: ignore[union-attr]  # it has one
    InteractiveShell.clear_instance()


def endless() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


def test_things_are_passed_on_as_they_come(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress([1, 2, 3])) == [1, 2, 3]
    assert list(progress(iter("ab"), total=2, desc="letters")) == ["a", "b"]
    assert list(progress([])) == []
    # In a pipe nothing is drawn.
    assert capsys.readouterr() == ("", "")


def test_terminal_has_a_bar_with_its_total(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    assert list(progress(range(7), desc="photos")) == list(range(7))
    assert "photos" in screen.getvalue()
    assert "7/7" in screen.getvalue()


def test_unknown_total_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    assert list(progress(x for x in range(3))) == [0, 1, 2]
    assert "3/?" in screen.getvalue()


def test_leaving_early_ends_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    bar = progress(endless())
    assert next(bar) == 0
    bar.close()  # type: ignore[attr-defined]  # it is a generator
    assert "1/?" in screen.getvalue()


def test_futures_are_passed_on_when_they_are_done() -> None:
    futures: list[Future[int]] = [Future() for _ in range(3)]
    futures[2].set_result(2)
    bar = progress(futures)
    assert next(bar) is futures[2]
    futures[0].set_result(0)
    assert next(bar) is futures[0]


def test_notebook_has_a_bar_that_is_updated_in_place(shell: InteractiveShell) -> None:
    with capture_output() as shown:
        assert in_notebook()
        assert list(progress(range(3), desc="<photos>")) == [0, 1, 2]
    pages = [output.data["text/html"] for output in shown.outputs]
    assert "0 of 3" in pages[0]
    assert "3 of 3" in pages[-1]
    assert "&lt;photos&gt;" in pages[0]
    assert shown.outputs[-1].update


def test_program_that_only_imports_ipython_is_no_notebook() -> None:
    assert not in_notebook()


def test_tqdm_goes_around_it() -> None:
    screen = io.StringIO()
    assert list(tqdm(progress(range(3)), total=3, file=screen)) == [0, 1, 2]
    assert "3/3" in screen.getvalue()


@pytest.mark.parametrize(
    "html",
    [
        client_html(url="http://<b>", nodes=[("<b>", "3.11")], waiting=1000, is_closed=True),
        future_html(id="<b>", state="failed", callable="<b>", worker="<b>", message="<b>"),
        job_html(name="<b>", counts={"completed": 2, "failed": 1, "pending": 1}),
        bar_html(done=1, total=None, text="<b>"),
    ],
)
def test_what_users_named_is_escaped(html: str) -> None:
    assert "&lt;b&gt;" in html
    assert "><b><" not in html


def test_cards_say_what_is_known_and_nothing_else() -> None:
    assert "1,000" in client_html(url="u", waiting=1000)
    assert "worker" not in future_html(id="t1", state="running")
    html = job_html(name="nightly", counts={"completed": 2, "failed": 1, "pending": 1, "running": 0})
    assert "3 of 4" in html
    assert "running" not in html


def test_bar_of_nothing_has_no_bar() -> None:
    assert "<progress" not in bar_html(done=0, total=0)


def test_future_shows_its_task_and_how_it_stands() -> None:
    future: RotaFuture[int] = RotaFuture(None, b"", None)  # type: ignore[arg-type]  # it needs no client for this
    assert "pending" in future._repr_html_()
    future.seq = TaskSeq(7)
    future.set_result(3)
    assert "completed" in future._repr_html_()
    assert "t7" in future._repr_html_()
    assert "returned int" in future._repr_html_()
    failed: RotaFuture[int] = RotaFuture(None, b"", None)  # type: ignore[arg-type]  # as above
    failed.set_exception(ValueError("x"))
    assert "failed" in failed._repr_html_()
    cancelled: RotaFuture[int] = RotaFuture(FakeHome(), b"", None)  # type: ignore[arg-type]  # as above
    cancelled.cancel()
    assert "cancelled" in cancelled._repr_html_()


class FakeHome:
    def cancel(self, tickets: object, *, forget: bool) -> None: ...

"""The helpers that other tests lean on do what they promise, above all when things go wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support import GaveUp, RunningProcess, free_port, require_program, wait_until, wait_until_async

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
)


def python(code: str, log_path: Path) -> RunningProcess:
    return RunningProcess([sys.executable, "-c", code], log_path=log_path)


def answers_after(count: int) -> Iterator[str]:
    yield from [""] * count
    yield "ready"


def test_wait_returns_what_the_condition_found() -> None:
    answers = answers_after(3)
    assert wait_until(lambda: next(answers), what="an answer") == "ready"


def test_wait_in_vain_says_for_what_and_what_was_there() -> None:
    with pytest.raises(GaveUp, match=r"waited 0\.01 s in vain for the moon; last seen: 0"):
        wait_until(lambda: 0, what="the moon", timeout_s=0.01)


def test_wait_goes_on_over_expected_errors_and_names_the_last() -> None:
    def refuse() -> bool:
        raise ConnectionError("nobody there")

    with pytest.raises(GaveUp, match="nobody there"):
        wait_until(refuse, what="a server", timeout_s=0.01, ignoring=(ConnectionError,))
    with pytest.raises(ConnectionError):
        wait_until(refuse, what="a server")


async def test_async_wait_takes_functions_and_coroutines() -> None:
    answers = answers_after(2)

    async def ask() -> str:
        return next(answers)

    assert await wait_until_async(ask, what="an answer") == "ready"
    assert await wait_until_async(lambda: 5, what="a number") == 5
    with pytest.raises(GaveUp):
        await wait_until_async(lambda: None, what="nothing", timeout_s=0.01)


def test_ports_are_given_once() -> None:
    ports = [free_port() for _ in range(20)]
    assert len(set(ports)) == 20


def test_process_is_stopped_at_the_end_of_the_block(tmp_path: Path) -> None:
    with python("import time; print('up on 17', flush=True); time.sleep(60)", tmp_path / "log") as process:
        assert process.wait_for_line(r"up on (\d+)")[1] == "17"
        assert process.is_running()
    assert process.return_code == -signal.SIGTERM


def test_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    with python(STUBBORN, tmp_path / "log") as process:
        process.wait_for_line("deaf")
        assert process.stop(timeout_s=0.05) == -signal.SIGKILL


def test_failure_shows_what_the_process_wrote(tmp_path: Path) -> None:
    def fail_beside_a_process() -> None:
        with python("import sys; sys.exit('no such luck')", tmp_path / "log") as process:
            assert process.wait_for_exit() == 0

    with pytest.raises(AssertionError) as caught:
        fail_beside_a_process()
    assert "no such luck" in "\n".join(caught.value.__notes__)


def test_line_that_can_not_come_any_more_is_not_waited_for(tmp_path: Path) -> None:
    with (
        python("print('only this')", tmp_path / "log") as process,
        pytest.raises(GaveUp, match=r"last seen: 'its end'"),
    ):
        process.wait_for_line("something else", timeout_s=60.0)


def test_second_process_on_a_log_reads_only_its_own_output(tmp_path: Path) -> None:
    for word in ("first", "second"):
        with python(f"print({word!r})", tmp_path / "log") as process:
            process.wait_for_exit()
            assert process.output() == f"{word}\n"
    assert (tmp_path / "log").read_text() == "first\nsecond\n"


def test_process_does_not_outlive_tests_that_were_killed(tmp_path: Path) -> None:
    require_program("setpriv", package="util-linux")
    code = f"""
import os, pathlib, signal, sys
from tests.support import RunningProcess
child = RunningProcess(["sleep", "60"], log_path=pathlib.Path({str(tmp_path / "log")!r}))
print(child.pid, flush=True)
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""
    tests = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with tests:
        assert tests.stdout is not None
        child = psutil.Process(int(tests.stdout.readline()))
        # Only once it is `sleep` has the kernel been told to kill it with its parent.
        wait_until(lambda: child.name() == "sleep", what="the start of sleep")
        tests.communicate("\n")
    assert tests.returncode == -signal.SIGKILL
    wait_until(
        lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE,
        what="the end of the child",
        ignoring=(psutil.NoSuchProcess,),
    )


def test_program_that_is_there_is_found() -> None:
    assert os.access(require_program("sh", package="dash"), os.X_OK)


def test_missing_program_skips_the_test_and_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(pytest.skip.Exception, match="apt-get install rota-nowhere"):
        require_program("rota-no-such-program", package="rota-nowhere")

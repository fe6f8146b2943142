"""What is read from the end of a failed snippet's output: real tracebacks and panics, and what only looks like one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.worker.slots.last_words import CHARS_MAX, last_words

PANIC = b"""started
panic: first [recovered]
\tpanic: second

goroutine 1 [running]:
main.main.func1()
\tsnippet/main.go:7 +0x4a
panic({0x45e0a0, 0x48b6f8})
\truntime/panic.go:884 +0x212
main.main()
\tsnippet/main.go:9 +0x62
exit status 2
"""

PIECES = [
    b"Traceback (most recent call last):\n", b'  File "/x/task.py", line 3', b'  File "', b"\n", b"\r", b"panic: ",
    b"\xff", b"E: x", b"/task.py:", b"9" * 5000, b"x" * 40_000,
]  # fmt: skip


@pytest.mark.parametrize(
    "code, message",
    [
        ("x = 1\n1 / 0", "ZeroDivisionError: division by zero (line 2)"),
        ("if 1:\npass", "IndentationError: expected an indented block after 'if' statement on line 1 (line 2)"),
        ("def f(:\n  pass", "SyntaxError: invalid syntax (line 1)"),
        ("import json\njson.loads(1)", "TypeError: the JSON object must be str, bytes or bytearray, not int (line 2)"),
        ("try:\n  1 / 0\nexcept Exception as e:\n  raise KeyError('first\\nsecond') from e",
         "KeyError: 'first\\nsecond' (line 4)"),
        ("raise ValueError('first\\nsecond')", "ValueError: first (line 1)"),
        ("def f(): f()\nf()", "RecursionError: maximum recursion depth exceeded (line 1)"),
        ("raise KeyboardInterrupt", None),
        ("import sys\nsys.exit('no luck')", None),
        ("import sys\nsys.exit(3)", None),
        ("raise Exception('x' * 1000)", f"Exception: {'x' * (CHARS_MAX - 11)}… (line 1)"),
        ("class E(Exception): pass\nraise E", "E (line 2)"),
    ],
)  # fmt: skip
def test_an_exception_is_told_with_its_line(tmp_path: Path, code: str, message: str | None) -> None:
    (tmp_path / "task.py").write_text(code)
    done = subprocess.run([sys.executable, str(tmp_path / "task.py")], stderr=subprocess.PIPE, check=False)
    assert last_words("python", "task.py", done.returncode, stderr=done.stderr) == message


@pytest.mark.parametrize(
    "said", [b"", b"\xff\xfe\0", b"Error: no\n", b"Traceback (most recent call last):\n", b'  File "']
)
def test_in_what_is_no_traceback_nothing_is_found(said: bytes) -> None:
    assert last_words("python", "task.py", 1, stderr=said) is None
    assert last_words("go", "main.go", 2, stderr=said) is None
    assert last_words("", "", 1, stderr=said) is None


@given(st.sampled_from(["python", "go", "", "other"]), st.integers(0, 3), st.lists(st.sampled_from(PIECES)))
def test_whatever_was_written_it_is_a_line_or_nothing(language: str, code: int, pieces: list[bytes]) -> None:
    found = last_words(language, "task.py", code, stderr=b"".join(pieces))
    assert found is None or (len(found.splitlines()) == 1 and len(found) < CHARS_MAX + 100)


def test_a_panic_is_told_with_its_line() -> None:
    assert last_words("go", "main.go", 2, stderr=PANIC) == "panic: first [recovered] (line 7)"
    assert last_words("go", "main.go", 1, stderr=PANIC) is None, "which is how log.Fatal ends"
    assert last_words("go", "main.go", 2, stderr=b"fatal error: all goroutines are asleep - deadlock!\n") == (
        "fatal error: all goroutines are asleep - deadlock!"
    )

"""What a snippet costs next to the bare interpreter, or the bare program: from its submit until its end is known.

The same code bare, as a command and as a snippet, in turn on one machine; what counts is the median of the
differences. Tasks go over HTTP, are durable, and their output is captured; a snippet has a scratch directory, too.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from benchmarks.harness import Result, cluster, median_of, timed
from benchmarks.process_tasks import round_trip_ms
from rota.worker.toolchain import find_go, go_environment

__all__ = ["run"]

PYTHON: Final = "print('hello')\n"
GO: Final = 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("hello") }\n'

WARM_UP: Final = 5


def run(*, quick: bool) -> list[Result]:
    """Measure Python, and Go if there is a toolchain."""
    rounds = 50 if quick else 300
    with cluster(workers=1) as running, tempfile.TemporaryDirectory(prefix="rota-bench-") as folder:
        connection = http.client.HTTPConnection(urlsplit(running.url).netloc)
        took = _measure(_python(Path(folder)), {"kind": "python", "code": PYTHON}, connection, rounds=rounds)
        results = _results("python FILE", took, goal="< 10")
        program = _go(Path(folder))
        if program is None:
            sys.stdout.write("Go is left out: there is no toolchain\n")
        else:
            took = _measure([program], {"kind": "go", "code": GO}, connection, rounds=rounds)
            results += _results("a built Go program", took, goal="< 5")
        connection.close()
    return results


class _Took(NamedTuple):
    """Milliseconds, one of each in a round."""

    bare: list[float]
    command: list[float]
    snippet: list[float]


def _measure(
    command: Sequence[str], snippet: Mapping[str, object], connection: http.client.HTTPConnection, *, rounds: int
) -> _Took:
    took = _Took([], [], [])
    for _ in range(WARM_UP + rounds):
        took.bare.append(1e3 * timed(lambda: subprocess.run(command, stdout=subprocess.PIPE, check=True)))
        took.command.append(round_trip_ms(connection, {"command": command}))
        took.snippet.append(round_trip_ms(connection, snippet))
    return _Took(*(series[WARM_UP:] for series in took))


def _results(name: str, took: _Took, *, goal: str) -> list[Result]:
    def more(than: Sequence[float]) -> list[float]:
        return [snippet - other for snippet, other in zip(took.snippet, than, strict=True)]

    return [
        median_of(f"{name}, bare", took.bare, "ms"),
        median_of("  the same as a command, submit to end over HTTP", took.command, "ms"),
        median_of("  the same as a snippet", took.snippet, "ms"),
        median_of("  more than bare, median of the pairs", more(took.bare), "ms", goal=goal),
        median_of("  more than the command", more(took.command), "ms"),
    ]


def _python(folder: Path) -> list[str]:
    path = folder / "hello.py"
    path.write_text(PYTHON)
    return [sys.executable, str(path)]


def _go(folder: Path) -> str | None:
    """Build the program, as a worker would; ``None`` without a toolchain."""
    toolchain = find_go(os.environ)
    if toolchain is None:
        return None
    (folder / "main.go").write_text(GO)
    environment = go_environment(os.environ, cache=str(folder / "cache"), work=str(folder))
    subprocess.run(
        [toolchain.path, "build", "-ldflags=-s -w", "-o", "hello", "main.go"], cwd=folder, env=environment, check=True
    )
    return str(folder / "hello")

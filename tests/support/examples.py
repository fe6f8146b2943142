"""The examples that end the help of each command, taken apart as a shell would."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Final

from tests.support.house import ROOT

__all__ = ["calls_in", "write_files"]

FILES: Final = {
    "a.csv": "2\n1\n",
    "a.iso": "",
    "big.txt": "b\na\nb\n",
    "data": "1\n",
    "digits.py": "import sys\nprint(sys.argv[1])\n",
    "fit.sh": "#!/bin/sh\necho fitted $2\n",
    "hello.go": 'package main\n\nimport "os"\n\nfunc main() { println("hello", os.Args[1]) }\n',
    "in/a.csv": "2\n1\n",
    "job.py": "import sys\nprint(open(sys.argv[1]).read())\n",
    "jobs.swf": "1 0 -1 10 1 -1 -1 1 10 -1 1 1 1 1 1 -1 -1 -1\n2 5 -1 10 1 -1 -1 1 10 -1 1 1 1 1 1 -1 -1 -1\n",
    "plot.py": "import sys\nopen(sys.argv[1] + '.png', 'w').close()\n",
    "scenario.yaml": (ROOT / "examples" / "scenarios" / "bursts.yaml").read_text(),
    "token": "secret\n",
    "train.py": "print('trained')\n",
    "train.sh": "#!/bin/sh\necho trained\n",
}
"""What the reader of the examples is thought to have in the folder."""

_VARIABLE: Final = re.compile(r"[A-Z_]+=")


def write_files(folder: Path) -> None:
    """Put there what the reader has."""
    for name, content in FILES.items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
        file.chmod(0o755)


def calls_in(line: str) -> list[list[str]]:
    """Return the arguments of each ``rota`` that a line of shell calls, after the word itself.

    >>> calls_in("A=1 rota ps --json | jq '.[].id' | xargs -r rota cancel > out   # some")
    [['ps', '--json'], ['cancel', 'x1']]
    """
    parts: list[list[str]] = [[]]
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    for word in lexer:
        if set(word) <= set("|&;<>()"):
            parts.append([])
        else:
            parts[-1].append(word)
    calls = []
    for part in parts:
        words = [word for index, word in enumerate(part) if index or not _VARIABLE.match(word)]
        if words[:1] == ["rota"]:
            calls.append(words[1:])
        elif words[:3] == ["xargs", "-r", "rota"]:
            calls.append([*words[3:], "x1"])  # without any it is not called
    return calls

"""What the documents show is what happens: their console blocks, typed in order into a fresh cluster.

A block is a list of commands after ``$``, each with what it prints, if the document shows that. The
cluster is there already, and of the size that the documents have in mind; what starts one is not typed.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.support.commands import Rota, running_cluster
from tests.support.debian import require_program
from tests.support.house import ROOT
from tests.support.network import free_port
from tests.support.waiting import wait_until

DOCUMENTS: Final = (
    "README.md",
    "docs/grpc.md",
    "docs/grpc-workers.md",
    "docs/guide.md",
    "docs/files.md",
    "docs/moving-from-taskandgo.md",
    "docs/placement.md",
    "docs/placement-only.md",
    "docs/calendars.md",
    "docs/sharing.md",
    "docs/simulation.md",
    "docs/snippets.md",
    "docs/workloads.md",
    "docs/reference/rest.md",
)

OPTIONS: Final = {"docs/grpc-workers.md": ("--transport", "grpc")}
"""Of the cluster, where a document has a particular one in mind."""

STARTS_A_CLUSTER: Final = re.compile(r"^(make|rota (up|coordinator|worker)|export) ?")

ELSEWHERE: Final = "## Several machines"
"""From here on the guide needs more machines than one."""

NEEDED_FILES: Final = {
    "backup.sh": "#!/bin/sh\necho saved\n",
    **{f"{number}.csv": "1,2\n" for number in range(40)},
    **{path.name: path.read_text() for path in (ROOT / "examples" / "snippets").iterdir()},
}
"""What every reader is thought to have."""

OWN_FILES: Final = {
    "docs/files.md": {
        "towns.csv": "Ulm,126000\nKiel,247000\nWismar,43000\n",
        "largest.sh": '#!/bin/sh\nmkdir result\nsort -t, -k2 -rn "$1" | head -n 1 > result/largest.csv\n',
    },
}
"""What the reader of one document has besides."""

SHOWN_FILE: Final = re.compile(r"`(\w+\.py)`:\n\n```python\n(.*?)^```", re.M | re.S)
"""A program that the reader is thought to save under the name before it."""


class Typed(NamedTuple):
    """A command, and the lines under it."""

    line: str
    shown: list[str]


def typed_in(document: str) -> Iterator[Typed]:
    text = (ROOT / document).read_text().split(ELSEWHERE)[0]
    for kind, block in re.findall(r"^```(console|sh)\n(.*?)^```", text, re.M | re.S):
        commands: list[Typed] = []
        for line in block.splitlines():
            if kind == "sh" or line.startswith("$ "):
                commands.append(Typed(line.removeprefix("$ "), []))
            else:
                commands[-1].shown.append(line)
        yield from (command for command in commands if not STARTS_A_CLUSTER.match(command.line))


def test_blocks_are_found_with_what_they_print() -> None:
    assert Typed("rota run -- python3 -c 'print(6 * 7)'", ["42"]) in list(typed_in("docs/guide.md"))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_reader_who_types_along_sees_what_is_shown(document: str, tmp_path: Path) -> None:
    for program in ("jq", "curl"):
        require_program(program, package=program)
    if document == "docs/snippets.md":
        require_program("go", package="golang-go")
    for name, content in {**NEEDED_FILES, **OWN_FILES.get(document, {})}.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    for name, program in SHOWN_FILE.findall((ROOT / document).read_text()):
        (tmp_path / name).write_text(program)
    port = free_port()
    arguments = ("--workers", "2", "--resources", "cpu=2000,memory=8G", "--grpc-port", str(port))
    with running_cluster(tmp_path, *arguments, *OPTIONS.get(document, ())) as (rota, _):
        wait_until(lambda: is_open(port), what="the gRPC port")
        for command in typed_in(document):
            assert_shows(rota, command, grpc_port=port)


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def assert_shows(rota: Rota, command: Typed, *, grpc_port: int) -> None:
    line = command.line.replace("localhost:8080", rota.url.removeprefix("http://"))
    line = line.replace("localhost:50051", f"localhost:{grpc_port}")
    # What a user types at a prompt: the exit code is that of the first program that fails.
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**rota.env, "PWD": os.fspath(rota.folder)},
        cwd=rota.folder,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, f"{line}\n{result.stdout}"
    assert '"error"' not in result.stdout, line
    if command.shown:
        assert result.stdout.splitlines() == command.shown, line

"""TAB in real shells: the printed script is taken, and completes commands, words and ids of a live cluster."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.commands import Rota, running_cluster
from tests.support.debian import require_program
from tests.support.terminal import Terminal

pytestmark = pytest.mark.xdist_group("e2e-completion")

SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}

SOURCE = {
    "bash": "source <(rota completion bash)",
    "zsh": "autoload -U compinit; compinit -u -D; source <(rota completion zsh)",
}


@pytest.fixture(scope="module")
def rota(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rota]:
    with running_cluster(tmp_path_factory.mktemp("cluster"), "--workers", "1", "--tags", "ssd") as (rota, _):
        rota.ok("submit", "--id", "waiting-for-tape", "--delay", "1h", "--", "true")
        rota.ok("submit", "--id", "night:a@dawn", "--wait", "--", "true")
        leave = "mkdir result; touch result/one.csv result/two.csv"
        rota.ok("submit", "--id", "ended-long-ago", "--output", "result", "--wait", "--shell", leave)
        rota.ok("queues", "set", "nightly", "--weight", "2")
        rota.ok("limits", "set", "licence", "3")
        yield rota


LINES = [
    ("rota submi", "rota submit "),
    ("rota submit --gpu-m", "rota submit --gpu-memory "),
    ("rota submit --placement binp", "rota submit --placement binpack "),
    ("rota submit --placement=binp", "rota submit --placement=binpack "),
    ("rota cancel waiting", "rota cancel waiting-for-tape "),
    ("rota show night:a@", "rota show night:a@dawn "),
    ("rota cancel --url=URL waiting", "rota cancel --url=URL waiting-for-tape "),
    ("rota cancel --url URL waiting", "rota cancel --url URL waiting-for-tape "),
    ("rota drain w", "rota drain w1 "),
    ("rota fetch ended-long-ago --only result/t", "rota fetch ended-long-ago --only result/two.csv "),
    ("rota wait waiting", "rota wait waiting-for-tape "),
    ("rota queues set nigh", "rota queues set nightly "),
    ("rota submit --limit lic", "rota submit --limit licence "),
    ("rota submit --tag ss", "rota submit --tag ssd "),
    ("rota run -- ./script-of-m", "rota run -- ./script-of-mine "),
]


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_completes_in_a_real_shell(rota: Rota, shell: str) -> None:
    require_program(shell, package=shell)
    (rota.folder / "script-of-mine").touch()
    with Terminal(SHELLS[shell], env=rota.env, cwd=rota.folder) as terminal:
        terminal.type(f"PS1='READY: '; PROMPT=$PS1; {SOURCE[shell]}; echo it is' 'sourced\n")
        terminal.wait_for("it is sourced")
        for typed, completed in LINES:
            terminal.type(typed.replace("URL", rota.url) + "\t")
            terminal.wait_for(re.escape(completed.replace("URL", rota.url)))
            terminal.type("\x15")  # Ctrl-U: an empty line again


@pytest.mark.parametrize("typed,completed", LINES)
def test_fish_offers_what_fits(rota: Rota, typed: str, completed: str) -> None:
    require_program("fish", package="fish")
    (rota.folder / "script-of-mine").touch()
    offered = subprocess.run(
        [
            "fish",
            "--no-config",
            "-c",
            f"rota completion fish | source; complete -C {shlex.quote(typed.replace('URL', rota.url))}",
        ],
        capture_output=True,
        text=True,
        env=rota.env,
        cwd=rota.folder,
        timeout=60,
        check=True,
    ).stdout
    assert completed.rsplit(maxsplit=1)[-1] in [line.split("\t")[0] for line in offered.splitlines()]


def test_what_a_command_can_do_nothing_with_is_not_offered(rota: Rota) -> None:
    require_program("fish", package="fish")
    line = "rota completion fish | source; complete -C 'rota cancel '"
    offered = subprocess.run(
        ["fish", "--no-config", "-c", line], capture_output=True, text=True, env=rota.env, timeout=60, check=True
    ).stdout
    assert "waiting-for-tape\tpending" in offered
    assert "ended-long-ago" not in offered

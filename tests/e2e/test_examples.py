"""The examples of every help do what they say: typed into a shell, on a cluster that has what they speak of."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Final

import pytest

from scripts.make_reference import all_commands, example_of
from tests.support.commands import Rota, running_cluster
from tests.support.debian import require_program
from tests.support.examples import write_files

pytestmark = pytest.mark.xdist_group("e2e-examples")

STARTS: Final = frozenset({"up", "coordinator", "worker", "events"})
"""They run until somebody stops them: other tests start and stop them."""

TAKES_LONG: Final = frozenset({"workload", "bench"})
"""Other tests run them, for shorter."""

NEEDS_A_LOSS: Final = frozenset({"forget"})
"""A worker would have to be lost for them, which takes its time."""

HISTORY: Final = ".local/state/rota"
"""Where the example has the state of a coordinator."""

CALENDAR: Final = "rota cron add @hourly --name report -- true"

NO_CALENDARS: Final = "rota cron list --json | jq -r '.[].name' | xargs -r rota cron remove"

SWEEP: Final = "rota submit --label job=sweep --output '*.txt' --shell 'pwd > $(basename $PWD).txt' --wait"

CRON_PARTS: Final = ("show", "pause", "resume", "run", "history", "remove")

PREPARED: Final = {
    **{f"cron {part}": CALENDAR for part in CRON_PARTS},
    "cancel": "rota submit --queue batch --delay 1h -- true",
    "fetch": SWEEP,
    "limits remove": "rota limits set licence-x 3",
    "queues pause": "rota queues set batch --weight 2",
    "queues remove": "rota queues set batch --weight 2",
    "queues resume": "rota queues set batch --pause",
    "reserve end": "rota reserve add demo --resources cpu=1000 --for 1h",
    "resume": "rota drain w1 w2",
    "wait": f"rota submit --id prepare -- true && {SWEEP}",
}
"""What has been done before, in the world of an example."""

CLEARED: Final = {
    **dict.fromkeys(("cron", "cron add", *(f"cron {part}" for part in CRON_PARTS)), NO_CALENDARS),
    "drain": "rota resume w1 w2",
    "fetch": "rm -r results",
    "limits": "rota limits remove licence-x",
    "limits set": "rota limits remove licence-x",
    "queues pause": "rota queues resume batch",
    "reserve add": "rota reserve end nightly; rota reserve end demo",
    "reserve": "rota reserve end nightly",
    "wait": "rm -r results",
}
"""What is undone after it, so that the examples of others find room."""

COMMANDS: Final = [
    (name, example_of(command).lines)
    for name, command in all_commands()
    if name not in STARTS | TAKES_LONG | NEEDS_A_LOSS and name != "completion"
]


@pytest.fixture(scope="module")
def rota(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rota]:
    require_program("jq", package="jq")
    if any("--go " in line for _, lines in COMMANDS for line in lines):
        require_program("go", package="golang-go")  # before the workers look for it
    folder = tmp_path_factory.mktemp("cluster")
    write_files(folder)
    options = ("--workers", "2", "--resources", "cpu=16000,memory=64G", "--tags", "gpu,ssd")
    with running_cluster(folder, *options) as (rota, _):
        # Tasks 1 to 20, which all fail: so they can be shown, explained, cancelled and retried.
        (folder / HISTORY).parent.mkdir(parents=True)
        (folder / HISTORY).symlink_to(folder / "state")
        assert rota.run("submit", "--from", "-", "--wait", stdin='{"shell": "false"}\n' * 20).returncode == 1
        yield rota


@pytest.mark.parametrize("name,lines", COMMANDS)
def test_examples_can_be_typed_as_they_stand(rota: Rota, name: str, lines: list[str]) -> None:
    for line in [PREPARED.get(name, "true"), *lines, CLEARED.get(name, "true")]:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**rota.env, "HOME": os.fspath(rota.folder)},
            cwd=rota.folder,
            timeout=120,  # the first build of a Go program takes a while
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}"

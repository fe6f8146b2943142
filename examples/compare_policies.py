"""Runs the scenarios of docs/simulation.md again: writes their tables into the page, and draws their pictures.

    python examples/compare_policies.py docs/simulation.md

Needs matplotlib: `pip install "rota[plots]"`. Takes some minutes.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from rota.cli.text import duration

SCENARIOS: Final = Path(__file__).parent / "scenarios"
POLICIES: Final = "random,round-robin,first-fit,least-loaded,consistent-hash,binpack,spread"

COLUMNS: Final = ("placement", "wait", "wait, 95 %", "slowdown", "makespan", "cpu", "workers in use")
LARGE: Final = "large"
"""A queue of this name has a column for its waits."""

SECTION: Final = re.compile(
    r"(\*\*\[[^\]]+\]\(\.\./examples/scenarios/(?P<name>[\w-]+)\.yaml\)\*\*[^|]*?\n\n)(?:\|[^\n]*\n)+"
)
"""What leads to a table, and the table."""


def rerun(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    page.write_text(SECTION.sub(lambda match: match[1] + table_of(match["name"], page), text), encoding="utf-8")


def table_of(name: str, page: Path) -> str:
    print(f"{name} …", flush=True)
    picture = page.parent / "pictures" / f"{name}.png"
    rota = [sys.executable, "-m", "rota", "simulate", str(SCENARIOS / f"{name}.yaml")]
    command = [*rota, "--compare", POLICIES, "--plot", str(picture), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    reports: list[dict[str, Any]] = json.loads(done.stdout)
    rows = [row_of(report) for report in reports]
    columns = COLUMNS if len(rows[0]) == len(COLUMNS) else (*COLUMNS, "wait of large tasks")
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (columns, ["---"] * len(columns), *rows))


def row_of(report: dict[str, Any]) -> list[str]:
    waiting = report["waiting_s"]
    of_large = [duration(queue["waiting_mean_s"]) for queue in report["queues"] if queue["name"] == LARGE]
    return [
        f"`{report['placement']}`",
        duration(waiting["mean"]),
        duration(waiting["p95"]),
        f"{report['slowdown']['mean']:.2f}",
        duration(report["makespan_s"]),
        f"{100 * report['utilisation']:.1f}%",
        f"{report['workers_in_use']:.1f}",
        *of_large,
    ]


if __name__ == "__main__":
    rerun(Path(sys.argv[1]))

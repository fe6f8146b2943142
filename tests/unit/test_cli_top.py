"""What `rota top` shows of a cluster, and how it comes down to what a screen has room for."""

from __future__ import annotations

from functools import partial

import pytest
from click.testing import CliRunner, Result

from rota.cli.main import cli
from rota.cli.overview import FRAME_LINES, Glance, head_of, sections_of
from rota.cli.views import ShownNode, ShownStats, ShownTask, ShownUsage
from rota.core.model import Offer
from tests.support.coordinators import live_coordinator


def glance(*, nodes: int = 0, running: int = 0, reasons: dict[str, int] | None = None) -> Glance:
    reasons = reasons or {}
    return Glance(
        url="http://here",
        now=100.0,
        stats=ShownStats(
            tasks={"pending": sum(reasons.values()), "running": running, "completed": 0},
            reasons=reasons,
            capacity={"memory": 2048, "cpu": 4000},
            used={"cpu": 1000},
            rates={"ended": 2.5, "started": 0.0},
            uptime=75.0,
            version="9",
        ),
        nodes=[ShownNode(id=f"w{n}", state="online", resources={"cpu": 1000}) for n in range(nodes)],
        running=[
            ShownTask(id=f"t{n}", state="running", name="fit", started_at="1970-01-01T00:01:00Z")
            for n in range(running)
        ],
        pending=[
            ShownTask(id=f"p-{reason}", state="pending", reason=reason, reason_text=f"why {reason}")
            for reason in reasons
        ],
    )


def test_the_head_says_where_how_much_how_fast_and_how_full() -> None:
    assert list(head_of(glance(running=2, reasons={"tags": 3}))) == [
        "rota 9 at http://here, up 1m15s",
        "tasks: 3 pending, 2 running, 2.5/s ended",
        "cpu:    [#####               ] 1 of 4 reserved",
        "memory: [                    ] 0 B of 2.0 GiB reserved",
    ]


@pytest.mark.parametrize("lines", [16, 24, 50])
def test_all_fits_on_the_screen(lines: int) -> None:
    sections = sections_of(glance(nodes=500, running=150, reasons={"tags": 3, "quota": 1, "limit": 2}), lines=lines)
    assert sum(len(section.rows) for section in sections) <= lines - FRAME_LINES
    assert all(section.rows for section in sections)


def test_what_is_left_out_is_said_and_reasons_come_with_the_most_frequent_first() -> None:
    many = glance(nodes=500, running=150, reasons={"tags": 3, "resources": 4000})
    workers, running, waiting = sections_of(many, lines=50)
    assert workers.title == "workers: 14 of 500"
    assert running.title.endswith(" of 150")
    assert waiting.title == "waiting: 4,003"
    assert waiting.rows[0] == ("4,000", "resources", "p-resources", "why resources")


def test_room_that_few_workers_leave_is_for_what_runs() -> None:
    _, running, _ = sections_of(glance(nodes=1, running=30), lines=40)
    assert len(running.rows) == 30


def test_workers_that_take_no_part_come_first_then_the_fullest() -> None:
    seen = glance()
    seen.nodes.extend(
        [
            ShownNode(id="idle", state="online", resources={"cpu": 1000}),
            ShownNode(id="full", state="online", resources={"cpu": 2000}, used={"cpu": 2000}, tasks=2),
            ShownNode(id="gone", state="offline", usage=ShownUsage(cpu_percent=5.0, memory_used=1, memory_total=2)),
        ]
    )
    workers, *_ = sections_of(seen, lines=50)
    assert [row[0] for row in workers.rows] == ["gone", "full", "idle"]


def test_in_a_pipe_it_prints_once_what_there_is() -> None:
    with live_coordinator() as coordinator:

        def rota(*arguments: str) -> Result:
            return CliRunner().invoke(cli, arguments, env={"ROTA_URL": coordinator.url}, catch_exceptions=False)

        coordinator.do(partial(coordinator.service.add_node, "w1", offer=Offer(resources=(("cpu", 2000),))))
        for _ in range(2):
            rota("submit", "--name", "fit", "--", "true")
        coordinator.do(partial(coordinator.service.start, "t1"))
        shown = rota("top")
        assert shown.exit_code == 0
        assert "workers: 1\nWORKER\tSTATE\tTASKS\t" in shown.stdout
        assert "RUNNING\tTASK\tQUEUE\t" in shown.stdout
        assert "t1\tfit\tdefault\tw1\t1\t" in shown.stdout
        assert "waiting: 1\n" in shown.stdout
        assert rota("top", "--every", "1ms").exit_code == 2
        assert rota("top", "--url", "http://127.0.0.1:1").exit_code == 125

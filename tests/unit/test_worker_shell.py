"""What the worker's log says of trouble that is its machine's."""

from __future__ import annotations

from structlog.testing import capture_logs

from rota.core.agent import Agent
from rota.core.model import Cause, Offer, TaskSeq, WorkerId
from rota.core.protocol import Ended
from rota.worker.shell import AgentShell


async def test_a_task_that_the_machine_fails_is_told_in_the_log_and_not_a_thousand_times() -> None:
    shell = AgentShell(Agent(WorkerId("w1"), instance="one", offer=Offer(())))
    full = [Ended(TaskSeq(seq), 1, Cause.AGENT_ERROR, message="no space left") for seq in range(1, 1_001)]
    with capture_logs() as logs:
        shell.on_events([], [Ended(TaskSeq(9_000), 1, Cause.EXIT, message="its own fault")], [])
        shell.on_events([], full, [])
    assert [(entry["event"], entry["log_level"], entry["error"]) for entry in logs] == [
        ("task_not_run", "warning", "no space left")
    ]

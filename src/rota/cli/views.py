"""What the commands read from the coordinator's answers: checked once, here, at the border.

Each view holds the fields that are shown and ignores the rest, so that a newer coordinator
can say more. What is printed with ``--json`` is the answer as it came, never a view.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import Struct

from rota.cli.text import command_line, duration
from rota.core.errors import NoCoordinator

if TYPE_CHECKING:
    from rota.client.http import Json

__all__ = [
    "ShownAttempt",
    "ShownDifference",
    "ShownEvent",
    "ShownGpu",
    "ShownLimit",
    "ShownNode",
    "ShownProgress",
    "ShownQueue",
    "ShownReservation",
    "ShownShadow",
    "ShownStats",
    "ShownTask",
    "ShownUsage",
    "ShownWhy",
    "ending",
    "view_of",
]

V = TypeVar("V", bound=Struct)

ENDED_STATES = frozenset({"completed", "failed", "cancelled"})


class ShownAttempt(Struct, kw_only=True):
    """One execution of a task. Times are RFC 3339, memory in MiB."""

    number: int = 0
    worker: str | None = None
    queued_at: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    cause: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    message: str | None = None
    cpu_seconds: float | None = None
    peak_memory: float | None = None


class ShownBlocker(Struct, kw_only=True):
    """What keeps some workers from a task, or would let them take it."""

    text: str


class ShownPlace(Struct, kw_only=True):
    """How many tasks go before one."""

    ahead: int
    of: int


class ShownStart(Struct, kw_only=True):
    """When a task may start. Times are RFC 3339."""

    earliest: str
    latest: str
    basis: str = ""


class ShownWhy(Struct, kw_only=True):
    """Why a task waits, or where it stands."""

    id: str
    state: str
    text: str
    reason: str | None = None
    blockers: list[ShownBlocker] = []
    nearest: ShownBlocker | None = None
    place: ShownPlace | None = None
    start: ShownStart | None = None


class ShownQueue(Struct, kw_only=True):
    """A queue: what is set of it, what waits and runs."""

    name: str
    weight: float = 1.0
    paused: bool = False
    max_running: int | None = None
    max_resources: dict[str, int] = {}
    ordering: str | None = None
    placement: str | None = None
    preempts_by: int | None = None
    pending: int = 0
    running: int = 0
    used: dict[str, int] = {}


class ShownReservation(Struct, kw_only=True):
    """A reservation: what is kept on which workers, for whom and when. Times are RFC 3339."""

    name: str
    start_at: str
    end_at: str
    resources: dict[str, int] = {}
    queue: str | None = None
    on: list[str] = []


class ShownLimit(Struct, kw_only=True):
    """A limit: how much there is, and how much is in use."""

    name: str
    size: int
    used: int = 0
    pending: int = 0


class ShownProgress(Struct, kw_only=True):
    """How far a task says it is."""

    fraction: float | None = None
    text: str = ""

    @property
    def line(self) -> str:
        """Its share in percent, and its words, as far as they are there."""
        share = "" if self.fraction is None else f"{100 * self.fraction:.0f}%"
        return " ".join(part for part in (share, self.text) if part)


class ShownGang(Struct, kw_only=True):
    """Which gang a task belongs to."""

    id: str = ""
    size: int = 0


class ShownWork(Struct, kw_only=True):
    """What synthetic work does: in seconds and MiB."""

    mix: str = ""
    seconds: float = 0.0
    mib: int = 0

    @property
    def line(self) -> str:
        """What it is, in a few words."""
        size = f", {self.mib} MiB" if self.mib else ""
        return f"{self.mix} for {duration(self.seconds)}{size}"


class ShownOutput(Struct, kw_only=True):
    """A file that a task brought back."""

    name: str
    bytes: int = 0


class ShownTask(Struct, kw_only=True):
    """A task: what it is, and where it stands. Durations are seconds."""

    id: str
    state: str
    name: str | None = None
    kind: str | None = None
    command: list[str] | None = None
    shell: str | None = None
    image: str | None = None
    code: str | None = None
    data: str | None = None
    workload: ShownWork | None = None
    env: dict[str, str] = {}
    cwd: str | None = None
    resources: dict[str, int] = {}
    tags: list[str] = []
    priority: int = 50
    queue: str = "default"
    placement: str | None = None
    affinity: str | None = None
    limits: dict[str, int] = {}
    timeout: float | None = None
    retries: int = 0
    losses: int = 0
    start_at: str | None = None
    delay: float | None = None
    deadline: str | None = None
    labels: dict[str, str] = {}
    function: str | None = None
    callable: str | None = None
    python: str | None = None
    requirements: list[str] = []
    files: dict[str, object] = {}
    outputs: list[str] = []
    output_files: list[ShownOutput] = []
    exclusive: bool = False
    gang: ShownGang | None = None
    reason: str | None = None
    reason_text: str | None = None
    behind: int | None = None
    progress: ShownProgress | None = None
    cause: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    message: str | None = None
    worker: str | None = None
    attempt: int = 0
    retries_used: int = 0
    losses_used: int = 0
    cancel_requested: bool = False
    created_at: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    cpu_seconds: float | None = None
    peak_memory: float | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED_STATES

    @property
    def work(self) -> str:
        """What it runs, in a line."""
        if self.image is not None:
            return f"{self.image} {command_line(self.command or [])}".rstrip()
        if self.kind in ("python", "go"):
            return f"{self.kind} snippet {command_line(self.command or [])}".rstrip()
        if self.command is not None:
            return command_line(self.command)
        if self.workload is not None:
            return self.workload.line
        return self.callable or self.shell or self.kind or ""

    @property
    def title(self) -> str:
        """What to call it in a list: its name, or what it runs."""
        return self.name or self.work

    @property
    def why(self) -> str:
        """Why it waits, how far it is, or why it ended, in a few words; empty if there is nothing to say."""
        if self.state == "pending":
            return self.reason_text or self.reason or ""
        if self.state == "assigned" and self.behind:
            return f"behind {self.behind} in its line"
        if not self.has_ended:
            return "being cancelled" if self.cancel_requested else self.progress.line if self.progress else ""
        # "cancelled: cancelled" would say nothing.
        return "" if self.cause == self.state and not self.message else ending(self)

    @property
    def outcome(self) -> str:
        """The state, and why if there is something to say."""
        return f"{self.state}: {self.why}" if self.why else self.state


class ShownUsage(Struct, kw_only=True):
    """How busy a machine is; memory in MiB."""

    cpu_percent: float = 0.0
    memory_used: int = 0
    memory_total: int = 0
    load_1m: float = 0.0


class ShownGpu(Struct, kw_only=True):
    """One device of a worker; memory in MiB."""

    memory: int = 0
    model: str = ""


class ShownNode(Struct, kw_only=True):
    """A worker. ``last_seen`` is in seconds ago; ``kind`` is ``rota`` or ``placement-only``."""

    id: str
    state: str
    kind: str = "rota"
    addr: str = ""
    host: str = ""
    tags: list[str] = []
    resources: dict[str, int] = {}
    used: dict[str, int] = {}
    gpus: list[ShownGpu] = []
    tasks: int = 0
    quarantined_slots: int = 0
    python: str | None = None
    last_seen: float | None = None
    usage: ShownUsage | None = None


class ShownEvent(Struct, kw_only=True):
    """One change of state."""

    id: str = ""
    type: str = ""
    time: str | None = None
    task: str | None = None
    node: str | None = None
    attempt: int | None = None
    cause: str | None = None
    fraction: float | None = None
    text: str | None = None


class ShownDifference(Struct, kw_only=True):
    """A task that another policy would have placed elsewhere."""

    task: str = ""
    worker: str = ""
    other: str | None = None


class ShownShadow(Struct, kw_only=True):
    """What another placement policy would have done."""

    policy: str = ""
    seconds: float = 0.0
    decisions: int = 0
    same: int = 0
    no_room: int = 0
    workers_in_use: float = 0.0
    other_workers_in_use: float = 0.0
    would_start_s: float = 0.0
    examples: list[ShownDifference] = []


class ShownStats(Struct, kw_only=True):
    """The coordinator's counts."""

    tasks: dict[str, int] = {}
    reasons: dict[str, int] = {}
    nodes: dict[str, int] = {}
    capacity: dict[str, int] = {}
    used: dict[str, int] = {}
    rates: dict[str, float] = {}
    uptime: float = 0.0
    version: str = ""
    cluster: str = ""
    epoch: int = 0
    shadow: ShownShadow | None = None


def view_of(answer: Json, shape: type[V]) -> V:
    """Read an answer as one of the views.

    Raises:
        NoCoordinator: It lacks what every coordinator says, or has other types.
    """
    try:
        return msgspec.convert(answer, shape, strict=False)
    except msgspec.ValidationError as error:
        raise NoCoordinator(f"the answer is not one of a Rota coordinator ({error}): check ROTA_URL") from None


def ending(view: ShownTask | ShownAttempt) -> str:
    """Say why a task or an attempt ended, in a few words; of a success only what is to be noted about it."""
    if view.cause is None:
        return view.message or ""
    words = {"exit": f"exit {view.exit_code}", "signal": f"signal {view.signal}"}.get(view.cause, view.cause)
    return f"{words}: {view.message}" if view.message else words

"""Queues: named streams of tasks with a weight, a pause, and caps on what runs of them at once.

A queue is there as soon as a task names it; what somebody has set of it is kept by the store. What is used of a
queue is what
its live attempts use: it changes where an attempt is assigned and where it leaves its lane, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct, field

from rota.core.errors import BadRequest
from rota.core.model import Reason, Resources, Setting
from rota.core.spec import QUEUE_DEFAULT

if TYPE_CHECKING:
    from rota.core.cluster import Room

__all__ = ["QUEUE_KIND", "Queue", "QueueSettings", "Queues", "check_queue_settings"]

QUEUE_KIND: Final = "queue"
"""Of the settings that a store keeps."""

_encode: Final = msgspec.json.Encoder(order="deterministic").encode
_decoder: Final = msgspec.json.Decoder


class QueueSettings(Struct, frozen=True, omit_defaults=True):
    """What operators say of a queue.

    ``max_running`` and ``max_resources`` bound what its attempts have at once. ``ordering`` is ``fcfs`` or
    ``priority`` among its own
    tasks, where that differs from the coordinator's. ``preempts_by`` lets its tasks take the place of others whose
    priority is at least so much lower.
    """

    weight: float = 1.0
    paused: bool = False
    max_running: int | None = None
    max_resources: dict[str, int] = field(default_factory=dict)
    ordering: str | None = None
    placement: str | None = None
    preempts_by: int | None = None


class Queue:
    """A queue and what is used of it. ``rooms`` wait for its cap, its pause or one of its amounts to be lifted."""

    __slots__ = ("is_capped", "name", "rooms", "running", "settings", "used")

    def __init__(self, name: str) -> None:
        self.name = name
        self.running = 0
        self.used: dict[str, int] = {}
        self.rooms: dict[Room, None] = {}
        self.change(QueueSettings())

    def change(self, settings: QueueSettings) -> None:
        """Take new settings."""
        self.settings = settings
        self.is_capped = settings.paused or settings.max_running is not None or bool(settings.max_resources)

    def find_block(self, need: Resources) -> Reason | None:
        """Why nothing more of this queue may start that needs so much; ``None`` if it may."""
        settings = self.settings
        if settings.paused:
            return Reason.PAUSED
        if settings.max_running is not None and self.running >= settings.max_running:
            return Reason.QUOTA
        if settings.max_resources and self.find_full(need) is not None:
            return Reason.QUOTA
        return None

    def find_full(self, need: Resources) -> str | None:
        """The first resource of which the queue may not have so much more."""
        limits = self.settings.max_resources
        for name, amount in need:
            if name in limits and self.used.get(name, 0) + amount > limits[name]:
                return name
        return None

    def reserve(self, need: Resources, count: int) -> None:
        """Count so many lanes."""
        for name, amount in need:
            self.used[name] = self.used.get(name, 0) + amount * count

    def release(self, need: Resources) -> None:
        """Count a lane no more."""
        for name, amount in need:
            self.used[name] -= amount

    def setting(self) -> Setting:
        """What a store keeps of it."""
        return Setting(QUEUE_KIND, self.name, _encode(self.settings).decode())


class Queues:
    """All queues by name."""

    def __init__(self) -> None:
        self._queues: dict[str, Queue] = {}
        self.set_names: dict[str, None] = {}
        self.get(QUEUE_DEFAULT)

    def get(self, name: str) -> Queue:
        """The queue of this name; a new one has the defaults."""
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = Queue(name)
        return queue

    def find(self, name: str) -> Queue | None:
        """The queue, if a task has named it or somebody has set it."""
        return self._queues.get(name)

    def all(self) -> list[Queue]:
        """All of them, in order of their names."""
        return [self._queues[name] for name in sorted(self._queues)]

    def forget_all_but(self, names: Set[str]) -> None:
        """Let go of queues that nobody has set and that no tasks name: users may name as many as they like."""
        for name in self._queues.keys() - names - self.set_names.keys() - {QUEUE_DEFAULT}:
            del self._queues[name]

    def restore(self, setting: Setting) -> None:
        """Take in what the store has kept."""
        self.get(setting.name).change(_decoder(QueueSettings).decode(setting.data))
        self.set_names[setting.name] = None


def check_queue_settings(settings: QueueSettings) -> None:
    """Refuse nonsense.

    Raises:
        BadRequest: A field makes no sense; names it.
    """
    if not 0.001 <= settings.weight <= 1e6:
        raise BadRequest(f"weight is {settings.weight:g}: it must be 0.001 to 1,000,000")
    for name in ("max_running", "preempts_by"):
        value = getattr(settings, name)
        if value is not None and not 0 <= value <= 10**9:
            raise BadRequest(f"{name} is {value}: it must be 0 to 1,000,000,000")
    if settings.ordering not in (None, "fcfs", "priority"):
        raise BadRequest(f"ordering is {settings.ordering!r}: it must be fcfs or priority")
    for name, amount in settings.max_resources.items():
        if not 0 <= amount <= 10**15:
            raise BadRequest(f"max_resources: {name} is {amount}: it must be 0 to {10**15}")

"""What an agent is told by its slots, its channel and its clock, and what it wants done: commands in, effects out."""

from __future__ import annotations

from msgspec import Struct

from rota.core.model import AttemptKey, Cause
from rota.core.protocol import (
    Assignment,
    Ended,
    FromCoordinator,
    FromWorker,
    GangFacts,
    Mark,
    OutputChunk,
    Started,
    Usage,
)

__all__ = [
    "AgentCommand",
    "AgentEffect",
    "BeatDue",
    "ChannelLost",
    "ChannelOpened",
    "HangUp",
    "HurryUp",
    "LeaseDue",
    "LeaveWished",
    "MarksReported",
    "MessageArrived",
    "Run",
    "SendUp",
    "SlotQuarantined",
    "SlotsReported",
    "StopAttempt",
    "TakeBack",
]

# Commands -----------------------------------------------------------------------------------


class ChannelOpened(Struct, frozen=True):
    """There is a channel: say hello. ``wall`` is the time of day."""

    wall: float


class ChannelLost(Struct, frozen=True):
    """The channel is gone. What runs goes on."""


class MessageArrived(Struct, frozen=True):
    """The coordinator says something."""

    message: FromCoordinator


class SlotsReported(Struct, frozen=True):
    """What the slots have to tell since the last time."""

    started: list[Started]
    ended: list[Ended]
    output: list[OutputChunk]


class MarksReported(Struct, frozen=True):
    """How far running attempts say they are."""

    marks: list[Mark]


class SlotQuarantined(Struct, frozen=True):
    """A slot could not be emptied and will not be used again."""

    message: str


class BeatDue(Struct, frozen=True):
    """It is time for a heartbeat. ``wall`` is the time of day."""

    wall: float
    usage: Usage


class LeaseDue(Struct, frozen=True):
    """The lease may be over: see `Agent.lease_ends_at`."""


class LeaveWished(Struct, frozen=True):
    """Take nothing new, finish what runs, then go."""


class HurryUp(Struct, frozen=True):
    """Don't wait for what runs: stop it, and let it run elsewhere."""

    grace_s: float


AgentCommand = (
    ChannelOpened
    | ChannelLost
    | MessageArrived
    | SlotsReported
    | MarksReported
    | SlotQuarantined
    | BeatDue
    | LeaseDue
    | LeaveWished
    | HurryUp
)

# Effects ------------------------------------------------------------------------------------


class SendUp(Struct, frozen=True):
    """Send this on the open channel."""

    message: FromWorker


class Run(Struct, frozen=True):
    """Put these into their lanes, after what stands there. ``gangs`` is what members of gangs are told of theirs."""

    attempts: list[Assignment]
    gangs: dict[AttemptKey, GangFacts] = {}


class StopAttempt(Struct, frozen=True):
    """SIGTERM, ``grace_s`` later SIGKILL, and tell when nothing of it is left."""

    key: AttemptKey
    cause: Cause
    grace_s: float


class TakeBack(Struct, frozen=True):
    """Give back those of these that have not started."""

    keys: list[AttemptKey]


class HangUp(Struct, frozen=True):
    """Close the channel; come back if ``retryable``, else leave for good."""

    reason: str
    retryable: bool


AgentEffect = SendUp | Run | StopAttempt | TakeBack | HangUp

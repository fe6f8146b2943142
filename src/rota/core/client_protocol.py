"""What coordinator and SDK tell each other on a channel.

A client has a *session*: a random name that it keeps over any number of broken channels. It numbers
its tasks from 1 within the session and sends them in order; the coordinator commits how far it has come
together with the tasks, so what is sent again is recognised. Numbers become tasks by ranges; from then on
both sides speak of tasks by their sequence numbers.

What a client has not been told when its channel breaks it asks for in the next hello.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from rota.core.model import Cause, Count, NumberRange, TaskSeq, TaskState, WorkerId
from rota.core.protocol import BlobHome, Closing, Refused

__all__ = [
    "CancelThese",
    "ClientHello",
    "ClientWelcome",
    "Follow",
    "FromClient",
    "NodeFacts",
    "NumbersAccepted",
    "NumbersRefused",
    "Outcome",
    "Outcomes",
    "Submission",
    "Submit",
    "ToClient",
]

SessionName = Annotated[str, Meta(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9_-]*$")]
"""Random, so that nobody else has it: 128 bits or more."""


class NodeFacts(Struct, frozen=True, array_like=True):
    """What a client must know of a worker to warn of differences between its packages and theirs."""

    id: WorkerId
    python: str
    packages: dict[str, str]


# From the client ------------------------------------------------------------------------------


class ClientHello(Struct, frozen=True, tag="client-hello"):
    """The first message of a client on a channel.

    ``known_through``: it knows the ids of all its tasks up to this number. ``awaits`` are
    tasks of which it wants to know the end (its own, or others that it follows).
    """

    version: int
    session: SessionName
    known_through: Count
    awaits: list[TaskSeq]


class Submission(Struct, frozen=True, array_like=True, gc=False):
    """Tasks that differ by their arguments alone.

    ``template`` is an encoded ``TaskSpec`` without ``args``. With no ``args`` at all it is one task, as it stands.
    """

    template: bytes
    args: list[bytes]


class Submit(Struct, frozen=True, tag="submit"):
    """Accept these tasks: the first has ``number``, the others follow. ``known_through`` is as in the hello."""

    number: Count
    known_through: Count
    submissions: list[Submission]


class CancelThese(Struct, frozen=True, tag="cancel"):
    """Wish the end of these tasks."""

    tasks: list[TaskSeq]


class Follow(Struct, frozen=True, tag="follow"):
    """Tell of the end of these tasks, whoever submitted them."""

    tasks: list[TaskSeq]


FromClient = ClientHello | Submit | CancelThese | Follow

# From the coordinator -------------------------------------------------------------------------


class ClientWelcome(Struct, frozen=True, tag="client-welcome"):
    """The answer to a client's hello.

    All numbers up to ``accepted_through`` are decided: those in ``ranges`` became tasks, which the client follows from
    now on, others that it has no ids of were refused. ``nodes`` holds one worker of each kind.
    ``blob_home`` is where a client on the same machine may put large values.
    """

    version: int
    cluster: str
    accepted_through: int
    ranges: list[NumberRange]
    nodes: list[NodeFacts]
    blob_home: BlobHome | None = None


class NumbersAccepted(Struct, frozen=True, tag="accepted"):
    """These are on the record. The client follows them: it is told of their ends, later than of this."""

    ranges: list[NumberRange]


class NumbersRefused(Struct, frozen=True, tag="refused-numbers"):
    """Tasks ``number`` to ``number + count - 1`` are not taken and will never be: they make no sense."""

    number: int
    count: int
    code: str
    message: str


class Outcome(Struct, frozen=True, array_like=True, gc=False):
    """How a task ended. ``value`` is the envelope of what its function returned or raised, empty if there is none."""

    task: TaskSeq
    state: TaskState
    cause: Cause | None
    value: bytes
    message: str | None = None
    worker: WorkerId | None = None
    exit_code: int | None = None
    signal: int | None = None


class Outcomes(Struct, frozen=True, tag="outcomes"):
    """What has become of tasks that the client awaits.

    ``running`` have begun (told only of those that take more than some milliseconds); ``unknown`` are
    no longer on the record.
    """

    ended: list[Outcome] = []
    running: list[TaskSeq] = []
    unknown: list[TaskSeq] = []


ToClient = ClientWelcome | NumbersAccepted | NumbersRefused | Outcomes | Refused | Closing

"""The ports between the agent and what runs its attempts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from rota.core.model import AttemptKey, Cause, LaneId, TaskId
from rota.core.protocol import Ended, GangFacts, Mark, OutputChunk, Started

__all__ = [
    "Blobs",
    "Build",
    "Environments",
    "Programs",
    "ScratchPlaces",
    "SlotEvents",
    "Stock",
    "SuppliesFailed",
    "Work",
]


class Work(Struct, frozen=True):
    """An attempt to run in a lane, after those that stand there already.

    ``spec`` is encoded; ``devices`` are the indices of the lane's GPUs; ``gang`` is there for a
    member of one.
    """

    key: AttemptKey
    lane: LaneId
    id: TaskId
    spec: bytes
    devices: tuple[int, ...] = ()
    gang: GangFacts | None = None


class SlotEvents(Protocol):
    """Who is told what happens in the slots, on the event loop, once for each of its turns."""

    def on_events(self, started: list[Started], ended: list[Ended], output: list[OutputChunk]) -> None:
        """Take what has happened since the last call, each list in its order.

        A program that ends within 20 ms is never in ``started``. Output of an attempt comes in this
        call or an earlier one than its end. If both streams had at most 4 KiB, its end holds them whole, even
        where pieces were handed on while it ran.
        """
        ...

    def on_marks(self, marks: list[Mark]) -> None:
        """Hear how far running functions say they are."""
        ...

    def on_quarantined(self, lane: LaneId, message: str) -> None:
        """Hear that the lane's slot is lost: processes of an attempt could not be removed."""
        ...


class SuppliesFailed(Exception):
    """What an attempt needs can't be had, or its result can't be handed over: ends it with this cause and sentence."""

    def __init__(self, message: str, *, cause: Cause) -> None:
        super().__init__(message)
        self.cause = cause


class Blobs(Protocol):
    """The files that functions need and make, by their digests."""

    @property
    def folder(self) -> str:
        """Where slots leave large results."""
        ...

    def find(self, digest: str) -> str | None:
        """The path of a blob that is on this machine. Asked for each attempt: it must be quick."""
        ...

    async def fetch(self, digest: str) -> None:
        """Get a blob that is not here, however long that takes.

        Raises:
            SuppliesFailed: It can't be had.
        """
        ...

    def must_upload(self, digests: Sequence[str]) -> bool:
        """Whether the coordinator doesn't see these blobs where the slots left them."""
        ...

    async def upload(self, digest: str) -> None:
        """Give the coordinator a blob, however long that takes.

        Raises:
            SuppliesFailed: It will never take it.
        """
        ...


class ScratchPlaces(Protocol):
    """Where attempts have directories of their own."""

    def path_of(self, key: AttemptKey) -> str:
        """The path of an attempt's directory, which its slot makes and removes. It must be quick.

        Raises:
            OSError: There is no place for it.
        """
        ...


class Build(Struct, frozen=True, eq=False):
    """A program to be built: the code, and the digest of all that makes the program what it is."""

    name: str
    code: str

    @property
    def needs(self) -> tuple[str, ...]:
        """What must be kept for whoever runs it."""
        return (self.name,)


class Programs(Protocol):
    """Programs built of the code of snippets."""

    @property
    def source(self) -> str:
        """What the file with the code is called in what compiler and programs say."""
        ...

    def build_of(self, code: str) -> Build:
        """What must be built to run this code."""
        ...

    def find(self, name: str) -> str | None:
        """The path of a program that is there. Asked for each attempt: it must be quick."""
        ...

    async def build(self, build: Build, *, is_wanted: Callable[[], bool]) -> None:
        """Build a program, however long that takes, as long as somebody wants it.

        Raises:
            SuppliesFailed: It can't be built.
        """
        ...


class Environments(Protocol):
    """The virtual environments that tasks ask for."""

    async def interpreter(self, requirements: Sequence[str]) -> str:
        """The path of a Python that has these requirements; made if it isn't there.

        Raises:
            SuppliesFailed: It can't be made.
        """
        ...


class Stock(NamedTuple):
    """What a worker has for its attempts besides slots. What needs a thing that it has not does not run here.

    Functions need ``blobs``, their ``requirements`` need ``environments``, snippets need ``scratch``, those of Go
    ``programs``.
    """

    blobs: Blobs | None = None
    environments: Environments | None = None
    scratch: ScratchPlaces | None = None
    programs: Programs | None = None

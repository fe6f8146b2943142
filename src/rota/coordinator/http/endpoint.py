"""What an endpoint is: the one description from which both its route and its documentation are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from msgspec import Struct
from starlette.types import Receive, Scope

from rota.coordinator.advice import AdviceDesk
from rota.coordinator.http.answers import Answer, Stream
from rota.coordinator.http.body import BODY_BYTES_MAX
from rota.coordinator.http.query import NoQuery
from rota.coordinator.http.streams import Streams
from rota.coordinator.service import Service
from rota.core.errors import RotaError
from rota.store.blobs import BlobStore

__all__ = ["Body", "Call", "Documented", "Endpoint", "Handler"]

Q = TypeVar("Q", bound=Struct)


@dataclass(slots=True)
class Call:
    """One request on its way to its handler, already checked and read."""

    service: Service
    advice: AdviceDesk
    blobs: BlobStore
    streams: Streams
    path_values: Mapping[str, str]
    query: Struct
    body: bytes
    scope: Scope
    receive: Receive

    def query_as(self, shape: type[Q]) -> Q:
        """The parameters, as the struct that the endpoint names."""
        assert isinstance(self.query, shape)
        return self.query

    def find_header(self, name: bytes) -> str | None:
        """The value of a header; ``name`` in lower case."""
        return next((value.decode("latin-1") for found, value in self.scope["headers"] if found == name), None)


Handler = Callable[[Call], Awaitable[Answer | Stream]]


@dataclass(frozen=True)
class Documented:
    """A response that an endpoint gives: what it means, and of which type its content is.

    ``content`` is a type that msgspec can describe; ``None`` for none, or one that is not JSON.
    """

    status: int
    meaning: str
    content: object = None
    media_type: str = "application/json"


@dataclass(frozen=True)
class Body:
    """What an endpoint reads. ``content`` is ``None`` for bytes, which the handler receives by itself."""

    meaning: str
    content: object
    media_type: str = "application/json"
    bytes_max: int = BODY_BYTES_MAX


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One method of one path. A value in it that may hold slashes is ``{name:path}``.

    ``query`` is a struct with a default for every field. ``errors`` are those beside the ones
    that every endpoint has (a bad request, the guard's, what we did not foresee).
    """

    method: str
    path: str
    summary: str
    handler: Handler
    answers: tuple[Documented, ...]
    query: type[Struct] = NoQuery
    body: Body | None = None
    errors: tuple[type[RotaError], ...] = ()
    group: str = "tasks"

    @property
    def shown_path(self) -> str:
        """The path as documentation writes it."""
        return self.path.replace(":path}", "}")

"""What the two kinds of client have in common: a session and its link, REST, large values, functions to send again.

What differs is how they wait: `rota.client.hub` for threads, `rota.client.aio_hub` on the program's own loop.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from rota.client.blobs import BlobExchange
from rota.client.callables import Template
from rota.client.http import HttpClient
from rota.client.link import Address, Link
from rota.client.session import BLOB_MISSING, Rejection, SdkSession, Ticket
from rota.client.transport import Transport
from rota.core.client_protocol import ClientWelcome, NodeFacts, Outcome
from rota.core.errors import RotaError
from rota.core.spec import decode_spec
from rota.functions.envelope import is_blob

__all__ = ["FORKED", "SHUT_DOWN", "BaseHub", "is_large"]

SHUT_DOWN: Final = "cannot schedule new futures after shutdown"
"""In the words of the standard library, which programs may look for."""

FORKED: Final = "this client belongs to the process that forked this one: make a client of its own here"

FUNCTIONS_MAX: Final = 1_000
"""Kept, to send them again when the coordinator has them no more."""


class BaseHub(ABC):
    """What all futures of a client share.

    Args:
        address: The coordinator.
    """

    def __init__(self, address: Address) -> None:
        ca_file = None if address.ca_file is None else str(address.ca_file)
        self.address = address
        self.nodes: list[NodeFacts] = []
        """The workers, as the last welcome named them."""
        self.session = SdkSession(secrets.token_urlsafe(24), self)
        self.rest = HttpClient(address.url, token=address.token, ca_file=ca_file)
        self.blobs = BlobExchange(Transport(address.url, token=address.token, ca_file=ca_file), self.be_patient)
        self.link = Link(self.session, address, on_welcome=self._welcomed, on_turn=self.turned)
        self._functions: OrderedDict[str, Template] = OrderedDict()  # by their digests, each with one of its templates

    # For the session and the link ---------------------------------------------------------------

    @abstractmethod
    def ended(self, tickets: list[Ticket]) -> None: ...

    @abstractmethod
    def began(self, tickets: list[Ticket]) -> None: ...

    @abstractmethod
    def refused(self, tickets: list[Ticket]) -> None: ...

    @abstractmethod
    def turned(self) -> None:
        """Something has happened on the link."""

    @abstractmethod
    def be_patient(self, error: RotaError) -> None:
        """A large value could not be brought or fetched, for now: wait a little, or raise the error."""

    def _welcomed(self, welcome: ClientWelcome) -> None:
        self.nodes = welcome.nodes
        self.blobs.settle(welcome.blob_home)

    # Functions --------------------------------------------------------------------------------

    def is_brought(self, template: Template) -> bool:
        """Whether workers can fetch the function of a template."""
        return self.blobs.is_known(template.function_digest)

    def bring_again(self, template: Template) -> None:
        """Bring the function of a template, whatever is known of it. Blocks."""
        self.blobs.forget(template.function_digest)
        self.blobs.put([template.pickled], template.function_digest)
        self._functions[template.function_digest] = template
        while len(self._functions) > FUNCTIONS_MAX:
            self._functions.popitem(last=False)

    def is_worth_resending(self, ticket: Ticket) -> bool:
        """Whether all that is wrong is that the coordinator has removed the function, unused for long."""
        verdict = ticket.verdict
        is_missing = isinstance(verdict, Rejection) and verdict.code == BLOB_MISSING
        if not is_missing or ticket.is_resent or ticket.is_forgotten:
            return False
        return _function_of(ticket.template) in self._functions

    def templates_of(self, tickets: Iterable[Ticket]) -> list[Template]:
        """The functions of tickets that are worth resending, each with one of its templates."""
        digests = map(_function_of, dict.fromkeys(ticket.template for ticket in tickets))
        return [self._functions[digest] for digest in dict.fromkeys(digests) if digest is not None]

    def hang_up(self) -> None:
        """Close what is not in use."""
        self.rest.close()
        self.blobs.close()


def is_large(ticket: Ticket) -> bool:
    """Whether a ticket has ended with a value that must be fetched."""
    verdict = ticket.verdict
    return isinstance(verdict, Outcome) and is_blob(verdict.value)


def _function_of(encoded: bytes) -> str | None:
    """The digest of the function of a template, which many may share: calls with other options, or large arguments."""
    return decode_spec(encoded).function

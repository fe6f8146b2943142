"""The client in use: the innermost ``with Client()`` of this process.

Functions decorated with ``@rota.task``, and joblib's backend, submit to it. It is the process's, not
a thread's, so that threads started inside the ``with`` block have it, too.

Every program that uses functions loads this module, so here joblib is told of its backend.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

from rota.client.joblib_hook import register_joblib

__all__ = ["NoClient", "Submitter", "current_client", "enter_client", "find_client", "leave_client"]


class NoClient(RuntimeError):
    """No client is in use."""


class Submitter(Protocol):
    """What can take functions."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:  # the client says more exactly
        """Submit a call, and return its future."""


_lock = threading.Lock()
_entered: list[Submitter] = []


def enter_client(client: Submitter) -> None:
    """This client is in use, until `leave_client`."""
    with _lock:
        _entered.append(client)


def leave_client(client: Submitter) -> None:
    """This client is no longer in use; in whatever order they leave."""
    with _lock:
        for index in reversed(range(len(_entered))):
            if _entered[index] is client:
                del _entered[index]
                return


def find_client() -> Submitter | None:
    """Return the client in use, or ``None``."""
    entered = _entered[-1:]
    return entered[0] if entered else None


def current_client() -> Submitter:
    """Return the client in use.

    Raises:
        NoClient: There is none.
    """
    client = find_client()
    if client is None:
        raise NoClient("there is no client in use: put this into `with rota.Client() as client:`")
    return client


register_joblib()

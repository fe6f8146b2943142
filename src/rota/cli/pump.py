"""Brings one output stream of a running task to our own, byte for byte, as it is written.

Each stream has a thread of its own. It writes to the file descriptor itself: the buffer of
``sys.stdout`` has a lock, and a thread that is stuck in it when the interpreter ends would bring
the process down with a fatal error.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

from rota.cli.patience import Patience
from rota.cli.views import ShownTask, view_of
from rota.core.errors import RotaError

if TYPE_CHECKING:
    from rota.client.http import HttpClient

__all__ = ["Pump"]

FIRST_ATTEMPT: Final = 1
"""A stream that is opened before the task has started begins with its first attempt."""

REOPEN_S: Final = 0.2
"""After a stream that was ended properly though the task goes on: the coordinator is stopping."""

JOIN_STEP_S: Final = 0.5
"""Between looks at a thread that still writes: a join without a bound would swallow Ctrl-C."""


class Pump:
    """One stream of one task. A cut connection is taken up where it broke, within the same attempt."""

    def __init__(self, client: HttpClient, task_id: str, stream: str) -> None:
        self._client = client
        self._id = task_id
        self._stream = stream
        self._target = (sys.stdout if stream == "stdout" else sys.stderr).fileno()
        self._thread = threading.Thread(target=self._run, name=stream, daemon=True)
        self._error: RotaError | None = None
        self.is_unread = False
        """Whether the reader of our own stream has left."""

    def start(self) -> None:
        """Begin to bring over what is written. Does nothing when called again."""
        if self._thread.ident is None:
            self._thread.start()

    def finish(self) -> None:
        """Return when all is out. Call it when the task has ended.

        Raises:
            RotaError: Some of the output could not be had.
        """
        while self._thread.is_alive():
            self._thread.join(JOIN_STEP_S)
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._follow()
        except RotaError as error:
            self._error = error
        except BrokenPipeError:
            self.is_unread = True
            # The main thread waits for the task: only a signal reaches it there.
            os.kill(os.getpid(), signal.SIGINT)

    def _follow(self) -> None:
        # Who waits for the task says that the coordinator is away: once is enough.
        patience = Patience(is_quiet=True)
        attempt, written = 0, 0
        while True:
            try:
                task = view_of(self._client.task(self._id), ShownTask)
                now_attempt = max(task.attempt, FIRST_ATTEMPT)
                skipped = written if now_attempt == attempt else 0
                attempt, written = now_attempt, skipped
                for chunk in self._client.logs(self._id, {"stream": self._stream}, follow=True):
                    fresh = chunk[skipped:]
                    skipped -= len(chunk) - len(fresh)
                    written += len(fresh)
                    self._write(fresh)
                if task.has_ended or view_of(self._client.task(self._id), ShownTask).has_ended:
                    return
                patience.relax()
                time.sleep(REOPEN_S)
            except RotaError as error:
                patience.bear(error)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._target, view) :]

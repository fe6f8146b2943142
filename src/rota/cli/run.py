"""``rota run``: runs a command on the cluster as if it ran here.

The task's stdout and stderr come out of ours, live; its exit code becomes ours. Ctrl-C (or
SIGTERM) cancels the task and waits for its end; a second one leaves at once. When the
coordinator restarts, the task goes on, and so do we.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from rota.cli.exits import ABORTED, CLOSED_PIPE, TROUBLE, exit_code_of_task
from rota.cli.files import bring_back, ship_files
from rota.cli.options import with_client
from rota.cli.patience import Patience
from rota.cli.pump import Pump
from rota.cli.spec_options import command_argument, refuse_nothing, spec_from, spec_options
from rota.cli.text import all_lines
from rota.cli.views import ShownTask, view_of
from rota.cli.wording import say_in_options
from rota.core.errors import RotaError

if TYPE_CHECKING:
    from types import FrameType

    from rota.client.http import HttpClient, Json

__all__ = ["command"]

EXPLAIN_AFTER_S: Final = 2.0
"""A task that has not started by then gets a word of why: sooner it would only be noise."""

ASK_WAITING_S: Final = 5.0
"""How long the coordinator may hold back an answer while the task waits: the reason may change."""

ASK_RUNNING_S: Final = 30.0


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog="""Examples:

    \b
    rota run -- python3 train.py
    rota run --file a.csv --output sorted.csv --shell 'sort a.csv > sorted.csv'
    rota run --memory 2G --shell 'sort big.txt | uniq -c' > counts.txt
    rota run --retries 3 --timeout 10m --tag gpu -- ./train.sh
    rota run --go hello.go -- world
    echo 'print(6 * 7)' | rota run --python -

    Exits with the task's own code; 128 + N for signal N; 124 for a timeout, 137 for out of memory, 127 when it
    could not be started, 130 when cancelled, and 125 when Rota itself could not do it.
    """,
)
@spec_options
@command_argument
@with_client
def command(client: HttpClient, /, *, arguments: tuple[str, ...], **fields: Any) -> None:
    """Run a command on the cluster as if it ran here: its output, its exit code, Ctrl-C.

    Ctrl-C or SIGTERM cancels the task and waits for its end; a second one leaves at once. When the coordinator
    restarts meanwhile, the task goes on, and this too: it tries for a minute to reach it.
    """
    spec = spec_from(arguments, fields)
    refuse_nothing(spec)
    try:
        ship_files(client, spec)
        ended = _Run(client, _submit(client, spec)).follow()
    except RotaError as error:
        say_in_options(error)
        # Whatever is wrong with Rota must not look like a failure of the command.
        _leave(str(error), code=TROUBLE)
    if ended.message or ended.cause not in (None, "exit"):
        _say(f"{ended.id} {ended.outcome}")
    code = exit_code_of_task(state=ended.state, cause=ended.cause, exit_code=ended.exit_code, signal=ended.signal)
    try:
        bring_back(client, ended.id, spec.get("outputs", ()))
    except RotaError as error:
        _leave(f"{error}; what {ended.id} has left can be had with 'rota fetch {ended.id}'", code=code or TROUBLE)
    raise click.exceptions.Exit(code)


def _submit(client: HttpClient, spec: Json) -> ShownTask:
    try:
        return view_of(client.submit(spec), ShownTask)
    except KeyboardInterrupt:
        _leave("interrupted while submitting; 'rota ps' tells whether it was accepted", code=ABORTED)


class _Run:
    """One task that is followed to its end."""

    def __init__(self, client: HttpClient, task: ShownTask) -> None:
        self._client = client
        self._id = task.id
        self._pumps = [Pump(client, task.id, name) for name in ("stdout", "stderr")]
        self._told: str | None = None

    def follow(self) -> ShownTask:
        """Return the task when it has ended and all of its output is out."""
        signal.signal(signal.SIGTERM, _as_interrupt)
        try:
            return self._to_the_end()
        except KeyboardInterrupt:
            pass
        try:
            self._cancel()
            return self._to_the_end()
        except KeyboardInterrupt:
            _leave(f"{self._id} is being cancelled; look later with 'rota show {self._id}'", code=ABORTED)

    def _to_the_end(self) -> ShownTask:
        for pump in self._pumps:
            pump.start()
        ended = self._wait()
        for pump in self._pumps:
            pump.finish()
        return ended

    def _wait(self) -> ShownTask:
        patience = Patience()
        timeout_s = EXPLAIN_AFTER_S
        while True:
            try:
                task = view_of(self._client.wait(self._id, timeout_s=timeout_s), ShownTask)
            except RotaError as error:
                patience.bear(error)
                continue
            patience.relax()
            if task.has_ended:
                return task
            self._explain(task)
            timeout_s = ASK_WAITING_S if task.state == "pending" else ASK_RUNNING_S

    def _explain(self, task: ShownTask) -> None:
        """Say why the task waits, once for each reason."""
        if task.state == "pending" and task.why and task.why != self._told:
            self._told = task.why
            _say(f"{self._id} waits: {task.why}")

    def _cancel(self) -> None:
        """Pass a Ctrl-C on as a cancel; leave if nobody reads our output any more."""
        try:
            self._client.cancel(self._id)
        except RotaError as error:
            _leave(f"{self._id} may go on ({error}); look later with 'rota show {self._id}'", code=ABORTED)
        if any(pump.is_unread for pump in self._pumps):
            raise click.exceptions.Exit(CLOSED_PIPE)
        _say(f"cancelling {self._id}; Ctrl-C again to leave at once")


def _say(text: str) -> None:
    """Say it on stderr; what a compiler says may have several lines."""
    click.echo("rota: " + all_lines(text), err=True)


def _leave(text: str, *, code: int) -> NoReturn:
    _say(text)
    raise click.exceptions.Exit(code)


def _as_interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt

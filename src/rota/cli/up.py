"""``rota up``: a whole cluster on this machine, for as long as this command runs.

The coordinator and the workers are the same programs that run on many machines, started as
processes of our own; they write their logs to our stderr.
"""

from __future__ import annotations

import errno
import math
import os
import re
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NoReturn, get_args
from urllib.parse import urlsplit

import click

from rota.cli import options
from rota.cli.children import (
    FINISH_S,
    STOP_S,
    Child,
    block_signals,
    start_child,
    stop_children,
    wait_for_signal,
)
from rota.cli.coordinator import arguments_of, coordinator_config, coordinator_options
from rota.cli.exits import OK, REFUSED
from rota.cli.shares import CORE, divided
from rota.cli.worker import command as worker_command
from rota.cli.worker import worker_config
from rota.client.http import HttpClient
from rota.coordinator.config import CoordinatorConfig
from rota.core.errors import RotaError
from rota.wire.channel import Transport

__all__ = ["command"]

WORKERS_MAX: Final = 256
"""Each is a process of some 30 MiB."""

LOOK_EVERY_S: Final = 0.02
"""While everything starts: a fraction of what a Python process takes to start."""

START_S_MAX: Final = 60.0
"""A large state takes seconds to load, a slow disk longer: after this something is wrong."""

WORKERS_S_MAX: Final = 10.0
"""For the workers to report. The cluster is of use without them, so they only get a word."""

WATCH_S: Final = 60.0
"""Between looks while nothing happens: signals wake us."""

RESTART_S_MIN: Final = 5.0
"""A process that was started again and did not live so long is given up: it would end again."""

_LISTENING = re.compile(r"listening on http://.*:(\d+)$", re.MULTILINE)
"""What a coordinator writes to stdout when it can be reached."""

_SERVING_GRPC = re.compile(r"serving gRPC on .*:(\d+)$", re.MULTILINE)
"""The same of its gRPC port, a moment later."""


@click.command(
    epilog="""Examples:

    \b
    rota up
    rota up --workers 4 --port 0 --state-dir /tmp/try
    rota up --workers 0                    # and start workers elsewhere
    """
)
@click.option(
    "--workers", type=click.IntRange(0, WORKERS_MAX), default=1, show_default=True, help="How many; 0 for none."
)
@click.option("--resources", type=options.RESOURCES, help="To divide among the workers, instead of what is found.")
@click.option("--overcommit", type=options.FACTORS, help="Offer more than there is: cpu=2.0 for twice the cores.")
@click.option("--tags", "--capabilities", default="", metavar="TAG,…", help="Of all workers.")
@click.option(
    "--transport",
    type=click.Choice(get_args(Transport)),
    default="websocket",
    show_default=True,
    help="Of the workers' channels.",
)
@coordinator_options
def command(
    workers: int,
    resources: dict[str, int] | None,
    overcommit: dict[str, float] | None,
    tags: str,
    transport: Transport,
    **given: Any,
) -> None:
    """Start a whole cluster on this machine: a coordinator and workers, which share its resources.

    Ctrl-C stops it: what runs has 3 seconds to end, else the next start runs it again, and goes on with what was
    waiting. A second Ctrl-C kills at once. A worker that was killed or has crashed is started again, and so is a
    coordinator that was killed, unless that one ends within 5 seconds, too.

    Each worker gets whole cores while there are enough; more workers than cores share them, a core each. Limits of a
    container count as the machine's size. GPUs are offered by the first worker.
    """
    config = coordinator_config(given, log_level="warning")
    arguments = _worker_arguments(workers, resources, tags=tags)
    if overcommit:
        for each in arguments:
            each.append("--overcommit=" + ",".join(f"{name}={factor:g}" for name, factor in overcommit.items()))
    _check_workers(arguments)
    if transport == "grpc" and config.grpc_port == "off":
        raise click.UsageError("--transport grpc takes a port for gRPC: leave out --grpc-port off")
    _make_state_dir(config.state_dir)
    _check_port(config.host, config.port, option="--port")
    if isinstance(config.grpc_port, int):
        _check_port(config.host, config.grpc_port, option="--grpc-port")
    block_signals()
    raise click.exceptions.Exit(_Cluster(config, transport).live(arguments))


class _Cluster:
    """The processes of one cluster."""

    def __init__(self, config: CoordinatorConfig, transport: Transport) -> None:
        self._config = config
        self._transport = transport
        self._env = dict(os.environ)
        # Not on the command line, where everybody on this machine could read it.
        self._env.pop("ROTA_TOKEN", None)
        if config.token is not None:
            self._env["ROTA_TOKEN"] = config.token
        self._coordinator = self._start_coordinator()
        self._is_settled = False
        self._worker_arguments: dict[str, list[str]] = {}
        self._restarted_at: dict[str, float] = {}
        self._workers: list[Child] = []

    def live(self, workers: list[list[str]]) -> int:
        """Run until somebody stops us or the coordinator ends; return the exit code."""
        is_urgent = False
        try:
            url = _url(self._config.host, int(self._wait_for_word(_LISTENING)))
            for given in workers:
                self._start_worker(url, given)
            self._wait_for_workers(url)
            self._settle()
            self._greet(url)
            self._watch()
        except _Stop:
            click.echo("rota: stopping; Ctrl-C again to stop at once", err=True)
            return OK
        except _CoordinatorGone as gone:
            click.echo(f"rota: {gone}", err=True)
            is_urgent = True  # nobody is there to take back what the workers have: the next start runs it again
            return REFUSED
        finally:
            # The workers first: they hand back what they have while there is somebody to take it.
            is_urgent = stop_children(self._workers, terms_s=(FINISH_S, STOP_S), is_urgent=is_urgent)
            stop_children([self._coordinator], terms_s=(STOP_S,), is_urgent=is_urgent)

    def _start_coordinator(self) -> Child:
        return start_child("coordinator", ["coordinator", *arguments_of(self._config)], env=self._env, is_heard=True)

    def _settle(self) -> None:
        """Keep the ports that were found: a coordinator that is started again must be where everybody looks for it."""
        grpc_port = self._config.grpc_port
        if grpc_port != "off":
            grpc_port = int(self._wait_for_word(_SERVING_GRPC))
        self._config = replace(self._config, port=int(self._wait_for_word(_LISTENING)), grpc_port=grpc_port)
        self._is_settled = True

    def _start_worker(self, url: str, given: list[str]) -> None:
        name = f"w{len(self._worker_arguments) + 1}"
        common = [f"--server={url}", f"--id={name}", f"--log-format={self._config.log_format}"]
        if self._transport == "grpc":
            common += ["--transport=grpc", f"--grpc-server={self._grpc_at(url)}"]
        self._worker_arguments[name] = ["worker", *common, f"--log-level={self._config.log_level}", *given]
        self._launch_worker(name)

    def _grpc_at(self, url: str) -> str:
        return f"{urlsplit(url).netloc.rpartition(':')[0]}:{self._wait_for_word(_SERVING_GRPC)}"

    def _launch_worker(self, name: str) -> None:
        self._workers.append(start_child(name, self._worker_arguments[name], env=self._env))

    def _wait_for_word(self, word: re.Pattern[str]) -> str:
        """Return what the coordinator says when it can be reached: it picks a port itself if it is told 0."""
        give_up_at = time.monotonic() + START_S_MAX
        while (match := word.search(self._coordinator.said())) is None:
            if time.monotonic() > give_up_at:
                raise _CoordinatorGone(f"the coordinator was not ready in {START_S_MAX:g} s")
            self._pause(LOOK_EVERY_S)
        return match[1]

    def _wait_for_workers(self, url: str) -> None:
        """Wait until the workers have reported; the cluster is of use before, so not for ever."""
        give_up_at = time.monotonic() + WORKERS_S_MAX
        with HttpClient(url, token=self._config.token) as client:
            while not self._are_workers_there(client):
                if time.monotonic() > give_up_at:
                    click.echo("rota: not all workers have reported yet: see 'rota nodes'", err=True)
                    return
                self._pause(LOOK_EVERY_S)

    def _are_workers_there(self, client: HttpClient) -> bool:
        wanted = {worker.name for worker in self._workers}
        try:
            return wanted <= {node["id"] for node in client.nodes() if node["state"] == "online"}
        except RotaError:
            return False

    def _greet(self, url: str) -> None:
        prefix = "" if url == options.DEFAULT_URL else f"ROTA_URL={url} "
        count = len(self._workers)
        grpc = ""
        if self._config.grpc_port != "off":
            grpc = f"gRPC, with reflection: {self._grpc_at(url)}\n"
        click.echo(
            f"rota is up at {url} with {count} worker{'s' * (count != 1)}, state in {self._config.state_dir}\n"
            f"The API and its documentation: {url}/docs\n{grpc}"
            f"Try in another terminal{', with ROTA_TOKEN set' if self._config.token else ''}:\n"
            f"  {prefix}rota run -- echo hello\n"
            f"  {prefix}rota ps\n"
            "Stop with Ctrl-C."
        )

    def _watch(self) -> NoReturn:
        """Wait for the end; signals wake us when a child has ended."""
        while True:
            self._pause(WATCH_S)

    def _pause(self, seconds: float) -> None:
        """Wait, see to the workers that have ended meanwhile, and go on unless it is over.

        Raises:
            _Stop: Somebody wants us to stop.
            _CoordinatorGone: The coordinator has ended.
        """
        if wait_for_signal(seconds):
            raise _Stop
        if self._coordinator.has_ended:
            self._replace_coordinator()
        for worker in [worker for worker in self._workers if worker.has_ended]:
            self._workers.remove(worker)
            self._replace(worker)

    def _replace_coordinator(self) -> None:
        """Start a coordinator again that was killed: what it accepted is on the disk, and its workers wait for it.

        One that left by itself has said why, and would do so again.

        Raises:
            _CoordinatorGone: Another would be of no use.
        """
        ending = self._coordinator.ending
        is_worth_it = self._is_settled and self._coordinator.was_killed and self._config.store != "memory"
        if not (is_worth_it and self._lived_long_enough("coordinator")):
            raise _CoordinatorGone(f"the coordinator ended {ending}; what it wrote above says why")
        click.echo(f"rota: the coordinator ended {ending}; starting it again, and what runs goes on", err=True)
        self._coordinator = self._start_coordinator()

    def _lived_long_enough(self, name: str) -> bool:
        """Whether one that has ended is to be started again; notes that it is."""
        now = time.monotonic()
        is_enough = now - self._restarted_at.get(name, -math.inf) >= RESTART_S_MIN
        if is_enough:
            self._restarted_at[name] = now
        return is_enough

    def _replace(self, worker: Child) -> None:
        """Start a worker again that was killed or has crashed.

        What it ran is known to be lost as soon as its successor reports, instead of after a long silence.
        """
        is_worth_it = worker.has_failed and self._lived_long_enough(worker.name)
        then = "starting it again" if is_worth_it else f"{len(self._workers)} left"
        click.echo(f"rota: worker {worker.name} ended {worker.ending}; {then}", err=True)
        if is_worth_it:
            self._launch_worker(worker.name)


class _Stop(Exception):
    """Somebody wants us to stop."""


class _CoordinatorGone(Exception):
    """There is no coordinator, or none that is of use; says why."""


def _worker_arguments(count: int, resources: dict[str, int] | None, *, tags: str) -> list[list[str]]:
    """Return the options of each worker: its share, and the GPUs for the first alone."""
    if not count:
        return []
    shares = divided(resources or _found_resources(), count)
    if resources is None and shares[-1]["cpu"] < CORE:
        # Shares of less than a core would run nothing of the usual size: they share cores instead.
        shares = [{**share, "cpu": CORE} for share in shares]
    arguments = [["--resources=" + ",".join(f"{name}={amount}" for name, amount in share.items())] for share in shares]
    for extra in arguments[1:]:
        extra.append("--gpus=0")
    return [[*extra, f"--tags={tags}"] if tags else extra for extra in arguments]


def _check_workers(arguments: list[list[str]]) -> None:
    """Tell before anything is started what each worker would refuse: a cluster without workers is of no use.

    Raises:
        click.UsageError: They would.
    """
    for given in arguments:
        worker_config(worker_command.make_context("worker", list(given)).params)


def _found_resources() -> dict[str, int]:
    """Return what a worker would find here, within the limits of a container."""
    # Only here: the coordinator starts meanwhile, and a refused command line does without.
    from rota.worker.machine import detect_amounts  # noqa: PLC0415 - see above

    return detect_amounts()


def _make_state_dir(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"can't make the state directory {path}: {error.strerror}") from error


def _check_port(host: str, port: int, *, option: str) -> None:
    """Tell before anything is started that the port is taken or the address is not ours.

    Raises:
        click.UsageError: It is.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise click.UsageError(
                f"port {port} of {host} is taken, perhaps by another coordinator: choose one with {option}, 0 for any"
            ) from error
        raise click.UsageError(f"can't listen on {host}:{port}: {error.strerror}") from error


def _url(host: str, port: int) -> str:
    """Return the address by which processes of this machine reach the coordinator."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"

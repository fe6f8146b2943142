"""``rota up``: a whole cluster on this machine, for as long as this command runs.

The coordinator and the workers are the same programs that run on many machines, started as
processes of our own; they write their logs to our stderr.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from pathlib import Path
from typing import Any, Final

import click

from rota.cli import options
from rota.cli.children import Child, block_signals, start_child, stop_children, wait_for_signal
from rota.cli.coordinator import arguments_of, coordinator_config, coordinator_options
from rota.cli.exits import REFUSED
from rota.cli.shares import CORE, divided, machine_resources
from rota.client.http import HttpClient
from rota.coordinator.config import CoordinatorConfig
from rota.core.errors import NoCoordinator, RotaError

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


@click.command(
    epilog="""Examples:

    \b
    rota up
    rota up --workers 4 --port 0 --state-dir /tmp/try
    rota up --workers 0        and start workers elsewhere
    """
)
@click.option("--workers", type=click.IntRange(0, WORKERS_MAX), default=1, show_default=True, help="How many.")
@click.option("--resources", type=options.RESOURCES, help="To divide among the workers, instead of what is found.")
@click.option("--tags", "--capabilities", default="", metavar="TAG,…", help="Of all workers.")
@coordinator_options
def command(workers: int, resources: dict[str, int] | None, tags: str, **given: Any) -> None:
    """Start a whole cluster on this machine: a coordinator and workers, which share its resources.

    Ctrl-C stops it; the next start goes on with what was waiting. GPUs are offered by the first worker.
    """
    config = coordinator_config(given, log_level="warning")
    _make_state_dir(config.state_dir)
    port = _free_port(config.host, config.port)
    cluster = _Cluster(config, url=_url(config.host, port), port=port)
    block_signals()
    raise click.exceptions.Exit(cluster.live(_worker_arguments(workers, resources, tags=tags)))


class _Cluster:
    """The processes of one cluster."""

    def __init__(self, config: CoordinatorConfig, *, url: str, port: int) -> None:
        self._config = config
        self._url = url
        self._port = port
        self._env = dict(os.environ)
        # Not on the command line, where everybody on this machine could read it.
        self._env.pop("ROTA_TOKEN", None)
        if config.token is not None:
            self._env["ROTA_TOKEN"] = config.token
        self._workers: list[Child] = []

    def live(self, workers: list[list[str]]) -> int:
        """Run from start to stop; return the exit code."""
        arguments = ["coordinator", *arguments_of(self._config), f"--port={self._port}"]
        coordinator = start_child("coordinator", arguments, env=self._env)
        is_urgent = False
        try:
            for given in workers:
                self._workers.append(self._start_worker(given))
            if not self._wait_until_ready(coordinator):
                return self._failed(coordinator)
            self._greet()
            return self._watch(coordinator)
        except _Stop:
            click.echo("rota: stopping; Ctrl-C again to stop at once", err=True)
            return 0
        finally:
            # The workers first: they hand back what they have while there is somebody to take it.
            is_urgent = stop_children(self._workers, is_urgent=is_urgent)
            stop_children([coordinator], is_urgent=is_urgent)

    def _start_worker(self, given: list[str]) -> Child:
        name = f"w{len(self._workers) + 1}"
        common = [f"--server={self._url}", f"--id={name}", f"--log-format={self._config.log_format}"]
        arguments = ["worker", *common, f"--log-level={self._config.log_level}", *given]
        return start_child(name, arguments, env=self._env)

    def _wait_until_ready(self, coordinator: Child) -> bool:
        """Return when tasks are accepted and the workers are there; false if the coordinator did not come."""
        give_up_at = time.monotonic() + START_S_MAX
        with HttpClient(self._url, token=self._config.token) as client:
            while not _is_ready(client):
                _pause(LOOK_EVERY_S)
                if coordinator.has_ended or time.monotonic() > give_up_at:
                    return False
            give_up_at = time.monotonic() + WORKERS_S_MAX
            while not self._are_workers_there(client):
                _pause(LOOK_EVERY_S)
                if coordinator.has_ended:
                    return False
                if time.monotonic() > give_up_at:
                    click.echo("rota: not all workers have reported yet: see 'rota nodes'", err=True)
                    break
        return True

    def _are_workers_there(self, client: HttpClient) -> bool:
        wanted = {worker.name for worker in self._workers if not worker.has_ended}
        try:
            return wanted <= {node["id"] for node in client.nodes() if node["state"] == "online"}
        except RotaError:
            return False

    def _failed(self, coordinator: Child) -> int:
        how = f"ended {coordinator.ending}" if coordinator.has_ended else f"was not ready in {START_S_MAX:g} s"
        click.echo(f"rota: the coordinator {how}: what it wrote above says why", err=True)
        return REFUSED

    def _greet(self) -> None:
        has_default_url = self._url == options.DEFAULT_URL
        prefix = "" if has_default_url else f"ROTA_URL={self._url} "
        click.echo(
            f"rota is up at {self._url} with {len(self._workers)} worker{'s' * (len(self._workers) != 1)}, "
            f"state in {self._config.state_dir}\n"
            f"API and its documentation: {self._url}/docs\n"
            "Try in another terminal:\n"
            f"  {prefix}rota run -- echo hello\n"
            f"  {prefix}rota ps\n"
            "Stop with Ctrl-C."
        )

    def _watch(self, coordinator: Child) -> int:
        """Wait for the end; tell which children end before."""
        alive = list(self._workers)
        while not coordinator.has_ended:
            for worker in [worker for worker in alive if worker.has_ended]:
                alive.remove(worker)
                click.echo(f"rota: worker {worker.name} ended {worker.ending}; {len(alive)} left", err=True)
            _pause(WATCH_S)
        click.echo(f"rota: the coordinator ended {coordinator.ending}: stopping", err=True)
        return REFUSED


class _Stop(Exception):
    """Somebody wants us to stop."""


def _pause(seconds: float) -> None:
    if wait_for_signal(seconds):
        raise _Stop


def _is_ready(client: HttpClient) -> bool:
    try:
        return client.is_ready()
    except NoCoordinator:
        return False


def _worker_arguments(count: int, resources: dict[str, int] | None, *, tags: str) -> list[list[str]]:
    """Return the options of each worker: its share, and the GPUs for the first alone."""
    if not count:
        return []
    shares = divided(resources or machine_resources(), count)
    if resources is None and shares[-1]["cpu"] < CORE:
        # Shares of less than a core would run nothing of the usual size: they share cores instead.
        shares = [{**share, "cpu": CORE} for share in shares]
    arguments = [["--resources=" + ",".join(f"{name}={amount}" for name, amount in share.items())] for share in shares]
    for extra in arguments[1:]:
        extra.append("--gpus=0")
    return [[*extra, f"--tags={tags}"] if tags else extra for extra in arguments]


def _make_state_dir(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"can't make the state directory {path}: {error.strerror}") from error


def _free_port(host: str, port: int) -> int:
    """Return the port to use: the given one if it is free, any free one for 0.

    Raises:
        click.UsageError: It is taken, or the address is not ours.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise click.UsageError(
                f"port {port} of {host} is taken, perhaps by another coordinator: choose one with --port, 0 for any"
            ) from error
        raise click.UsageError(f"can't listen on {host}:{port}: {error.strerror}") from error


def _url(host: str, port: int) -> str:
    """Return the address by which processes of this machine reach the coordinator."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"

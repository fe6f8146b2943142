"""What ``rota bench`` does: sees that the cluster is fit to be measured, measures, cleans up, and tells.

Its tasks have a low priority, so that what others submit meanwhile goes first, and a label, by which they are found;
however it ends, what has not run by then is cancelled.
"""

from __future__ import annotations

import secrets
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, Final

import click
import msgspec

from rota.cli.exits import ABORTED
from rota.cli.measures import LABEL, Meter, measure_all
from rota.cli.options import print_json
from rota.cli.table import print_table
from rota.cli.text import escaped
from rota.cli.verdicts import Figures, Times, milliseconds, per_second, verdicts
from rota.cli.views import ShownStats, view_of
from rota.client.client import Client
from rota.client.http import HttpClient, Json
from rota.client.local import LocalCluster
from rota.core.errors import Conflict, RotaError

__all__ = ["bench", "local_cluster"]

CORE: Final = 1000
"""Millicores: what a task of the bench wants."""

WIDTH_MAX: Final = 100
"""Of sentences, however wide the terminal is."""

COLUMNS: Final = ("MEASURED", "MEDIAN", "99 %", "RATE")

DISTURBING: Final = ("resources", "gang", "reservation")
"""Why a task may wait that will run as soon as there is room: it would run among ours."""

CLEAN_UP_TRIES: Final = 3


@contextmanager
def local_cluster(workers: int) -> Iterator[str]:
    """Run a cluster on this machine while the block does; yields its address."""
    cluster = LocalCluster(workers)
    try:
        yield cluster.url
    finally:
        cluster.stop()


def bench(connection: dict[str, Any], *, queue: str, seconds: float, is_forced: bool, as_json: bool) -> None:
    """Measure a cluster and tell.

    Args:
        connection: ``url``, ``token`` and ``ca_file`` of its coordinator.
        queue: Where the tasks go.
        seconds: How long it may take.
        is_forced: Whether to measure beside other work.
        as_json: Whether to print JSON.

    Raises:
        Conflict: There is no worker, or there is other work; or a task of the bench did not end well.
        click.exceptions.Exit: Somebody interrupted it.
    """
    with HttpClient(**connection) as client:
        nodes = _nodes_of(client)
        if not is_forced:
            _refuse_busy(client)
        figures = _figures(client, nodes)
        meter = Meter(client, partial(Client, **connection), run=figures.run, queue=queue, seconds=seconds)
        _measure(meter, figures, nodes)
    _show(figures, as_json=as_json)


def _nodes_of(client: HttpClient) -> list[Json]:
    """Return the workers that can take part.

    Raises:
        Conflict: There is none.
    """
    nodes = client.nodes()
    fit = [
        node
        for node in nodes
        if node.get("state") == "online" and "process" in node.get("kinds", ()) and _at_once(node) > 0
    ]
    if not fit:
        there = f"of {len(nodes)} workers" if nodes else "there are no workers, so"
        raise Conflict(
            f"nothing can be measured: {there} none is online, takes commands and offers a core; start one with "
            f"'rota worker --server {client.url}', or measure this machine with --local"
        )
    return fit


def _at_once(node: Json) -> int:
    """How many tasks of a core a worker runs at once."""
    return min(int(node.get("resources", {}).get("cpu", 0)) // CORE, int(node.get("max_tasks") or sys.maxsize))


def _refuse_busy(client: HttpClient) -> None:
    stats = view_of(client.stats(), ShownStats)
    running = stats.tasks.get("running", 0) + stats.tasks.get("assigned", 0)
    waiting = sum(stats.reasons.get(reason, 0) for reason in DISTURBING)
    if running or waiting:
        raise Conflict(
            f"the cluster has other work ({running:,} running, {waiting:,} waiting for room): it would spoil the "
            "figures, and the bench would slow it down; wait for its end, or say --anyway"
        )


def _figures(client: HttpClient, nodes: Sequence[Json]) -> Figures:
    return Figures(
        run=f"b-{secrets.token_hex(4)}",
        url=client.url,
        workers=len(nodes),
        cores=sum(int(node["resources"]["cpu"]) for node in nodes) / CORE,
        at_once=sum(map(_at_once, nodes)),
    )


def _measure(meter: Meter, figures: Figures, nodes: Sequence[Json]) -> None:
    """Measure; whatever happens, leave nothing behind that would still run."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        measure_all(meter, figures, nodes, on_step=_tell_step)
    except KeyboardInterrupt:
        left = _clean_up(meter)
        _say(f"interrupted; {left:,} tasks of the bench are cancelled")
        raise click.exceptions.Exit(ABORTED) from None
    except BaseException:
        _clean_up(meter)
        raise
    finally:
        _tell_step("")


def _clean_up(meter: Meter) -> int:
    """Cancel what has not ended; a request that was cut off may have been accepted, so look again."""
    cancelled = 0
    try:
        for _ in range(CLEAN_UP_TRIES):
            found = meter.cancel_all()
            cancelled = max(cancelled, found)
            if not found:
                break
    except RotaError as error:
        _say(f"{error}; what is left of the bench: rota ps --label {LABEL}={meter.run}")
    return cancelled


def _as_interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


# Telling -----------------------------------------------------------------------------------------------


def _show(figures: Figures, *, as_json: bool) -> None:
    sentences = verdicts(figures)
    if as_json:
        print_json({**msgspec.to_builtins(figures), "verdicts": sentences})
        return
    one = figures.workers == 1
    click.echo(
        f"{figures.url}: {figures.workers} worker{'' if one else 's'} with {figures.cores:g} core"
        f"{'s' * (figures.cores != 1)}; {figures.tasks:,} tasks in {figures.seconds:.0f} s, "
        f"labelled {LABEL}={figures.run}\n"
    )
    print_table(COLUMNS, list(_rows(figures)))
    click.echo()
    width = min(shutil.get_terminal_size().columns, WIDTH_MAX)
    for sentence in [*sentences, *(f"Left out: {text}." for text in figures.left_out)]:
        click.echo(click.wrap_text(escaped(sentence), width, initial_indent="- ", subsequent_indent="  "))


def _rows(figures: Figures) -> Iterator[tuple[str, str, str, str]]:
    alone = figures.submit
    for what, times, rate in (
        ("an empty request", figures.request, None),
        ("submitting a task", alone, 1000 / alone.median_ms if alone is not None else None),
        ("submitting many in one request", None, figures.submits_per_second),
        ("a command, submitted and waited for", figures.round_trip, None),
        ("many commands", None, figures.commands_per_second),
        ("a function, submitted and waited for", figures.function_round_trip, None),
        ("many functions", None, figures.functions_per_second),
    ):
        if times is not None or rate is not None:
            yield what, *_of(times), per_second(rate) if rate is not None else ""
    if figures.output_mb_per_second is not None:
        yield "a megabyte of output", "", "", f"{figures.output_mb_per_second:.1f} MB/s"
    if figures.commit_ms is not None:
        yield "a commit of the store (mean)", milliseconds(figures.commit_ms), "", ""


def _of(times: Times | None) -> tuple[str, str]:
    return ("", "") if times is None else (milliseconds(times.median_ms), milliseconds(times.p99_ms))


def _tell_step(what: str) -> None:
    """Say on a terminal what is measured now, over what was said before; nothing takes it away."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{f'measuring {what} …' if what else ''}", nl=False, err=True)


def _say(text: str) -> None:
    click.echo(f"rota: {escaped(text)}", err=True)

"""``rota worker``: starts a worker in this process."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, get_args

import click

from rota.cli import options
from rota.cli.wording import in_options
from rota.core.model import Gpu
from rota.wire.channel import GRPC_PORT, Transport
from rota.worker.config import LogFormat, LogLevel, WorkerConfig

__all__ = ["command", "worker_config"]


@click.command(
    epilog="""Examples:

    \b
    rota worker --server http://10.0.0.1:8080
    rota worker --max-tasks 4 --tags ssd --overcommit cpu=2
    rota worker --grpc-server 10.0.0.1:50051
    rota worker --id gpu7 --tags gpu,cuda-12.0 --resources cpu=8000,memory=32G
    """
)
@click.option(
    "--server",
    "--scheduler",
    "--url",
    envvar="ROTA_URL",
    default=options.DEFAULT_URL,
    show_default=True,
    help="The coordinator.",
)
@click.option(
    "--transport",
    type=click.Choice(get_args(Transport)),
    help="How it speaks to the coordinator.  [default: websocket, or grpc with --grpc-server]",
)
@click.option(
    "--grpc-server",
    metavar="HOST:PORT",
    help=f"Where it speaks gRPC; grpcs://HOST:PORT with TLS.  [default: port {GRPC_PORT} of its host]",
)
@click.option("--id", help="By which it is known; one living worker each.  [default: the host's name]")
@click.option("--addr", default="", help="An address to show to people.")
@click.option(
    "--tags", "--capabilities", multiple=True, metavar="TAG,…", help="What tasks can require, with commas between."
)
@click.option(
    "--max-tasks",
    "--workers",
    type=int,
    help="At most so many at once; without cpu= it then offers at least that many cores.",
)
@click.option(
    "--resources",
    type=options.RESOURCES,
    help="What to offer instead of what is found: cpu in millicores, memory in MiB or with a unit.",
)
@click.option("--overcommit", type=options.FACTORS, help="Offer more than there is: cpu=2.0 for twice the cores.")
@click.option("--gpus", type=options.GPUS, help="A number of devices, or the memory of each: 24G,24G. 0 for none.")
@click.option("--token", envvar="ROTA_TOKEN", help="What the coordinator asks for (better: ROTA_TOKEN).")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Read the token from a file, the first of several; anew for each channel that is opened.",
)
@click.option(
    "--output-limit",
    type=options.BYTES,
    default="1M",
    show_default=True,
    help="Of each stream of a task; first and last part are kept.",
)
@click.option(
    "--cache-dir",
    envvar="ROTA_CACHE_DIR",
    type=click.Path(path_type=Path),
    help="For blobs, environments, scratch directories and Go programs.  [default: ~/.cache/rota]",
)
@click.option(
    "--cache-limit",
    type=options.BYTES,
    default="4G",
    show_default=True,
    help="Of the blobs in it: what was used least recently goes first.",
)
@click.option(
    "--scratch-limit",
    type=options.BYTES,
    help="Of what a task has in its scratch directory at once; one with more is ended.  [default: none]",
)
@click.option(
    "--ca-file", envvar="ROTA_CA_FILE", type=click.Path(path_type=Path), help="Authority to trust, for https and grpcs."
)
@click.option(
    "--log-format",
    type=click.Choice(get_args(LogFormat)),
    default="auto",
    show_default=True,
    help="How to write log lines; auto is human on a terminal.",
)
@click.option(
    "--log-level",
    type=click.Choice(get_args(LogLevel)),
    default="info",
    show_default=True,
    help="Least severe to write.",
)
def command(**given: Any) -> None:
    """Start a worker: it offers this machine to a coordinator and runs what it is given.

    It tries to reach the coordinator for as long as it takes. SIGTERM lets it finish and leave.
    """
    config = worker_config(given)
    from rota.worker.main import run  # noqa: PLC0415 - slow to import, and help does without

    raise click.exceptions.Exit(run(config))


def worker_config(given: dict[str, Any]) -> WorkerConfig:
    """Make the configuration of the values of the options.

    Raises:
        click.UsageError: They make no sense.
    """
    token_file = given["token_file"]
    same = (
        "server",
        "grpc_server",
        "addr",
        "max_tasks",
        "resources",
        "cache_dir",
        "ca_file",
        "log_format",
        "log_level",
    )
    try:
        return WorkerConfig(
            **{name: given[name] for name in (*same, "log_format", "log_level")},
            transport=given["transport"] or ("websocket" if given["grpc_server"] is None else "grpc"),
            id=given["id"] if given["id"] is not None else socket.gethostname(),
            overcommit=given["overcommit"] or {},
            gpus=tuple(map(Gpu, given["gpus"])) if given["gpus"] is not None else None,
            tags=frozenset(tag.strip() for text in given["tags"] for tag in text.split(",") if tag.strip()),
            token=options.tokens_of(token_file)[0] if token_file is not None else given["token"],
            token_file=token_file.absolute() if token_file is not None else None,
            output_limit_bytes=given["output_limit"],
            cache_limit_bytes=given["cache_limit"],
            scratch_limit_bytes=given["scratch_limit"],
        )
    except ValueError as error:
        raise click.UsageError(in_options(str(error))) from error

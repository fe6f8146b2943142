"""``rota coordinator``: starts a coordinator in this process; and its options, which ``up`` has, too.

`arguments_of` is the way back: the options that give a configuration, which is how ``up`` starts a
coordinator as a process of its own. A test holds that the two are inverse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

import click

from rota.cli import completing, options
from rota.cli.wording import in_options
from rota.coordinator.config import (
    CoordinatorConfig,
    Durability,
    LogFormat,
    LogLevel,
    OrderingName,
    StoreName,
)

__all__ = [
    "COORDINATOR_OPTIONS",
    "arguments_of",
    "command",
    "coordinator_config",
    "coordinator_options",
]

F = TypeVar("F", bound=Callable[..., None])

_DEFAULT: Final = CoordinatorConfig()

ALGORITHMS: Final = {
    "fcfs": ("fcfs", "first-fit"),
    "round-robin": ("fcfs", "round-robin"),
    "random": ("fcfs", "random"),
    "least-loaded": ("fcfs", "least-loaded"),
    "consistent-hashing": ("fcfs", "consistent-hash"),
}
"""Ordering and placement by the names that schedulers with one word for both give them."""

COORDINATOR_OPTIONS: Final[Sequence[Callable[[Any], Any]]] = (
    click.option(
        "--host",
        default=_DEFAULT.host,
        show_default=True,
        help="Address to listen on; beyond this machine it wants a token or --insecure.",
    ),
    click.option("--port", type=int, default=_DEFAULT.port, show_default=True, help="Port; 0 picks a free one."),
    click.option(
        "--grpc-port",
        type=options.GRPC_PORT,
        default=_DEFAULT.grpc_port,
        show_default=True,
        help="Port for gRPC; auto is 50051, or a free one where that is taken; off for none.",
    ),
    click.option(
        "--state-dir",
        type=click.Path(path_type=Path, file_okay=False),
        default=_DEFAULT.state_dir,
        show_default=True,
        help="Where tasks and their output are kept; made with mode 0700.",
    ),
    click.option(
        "--store",
        type=click.Choice(get_args(StoreName)),
        default=_DEFAULT.store,
        show_default=True,
        help="What remembers; memory forgets at the end.",
    ),
    click.option(
        "--durability",
        type=click.Choice(get_args(Durability)),
        default=_DEFAULT.durability,
        show_default=True,
        help="relaxed may lose the last moments in a power cut, never in a crash.",
    ),
    click.option("--token", envvar="ROTA_TOKEN", help="What every request must carry (better: ROTA_TOKEN)."),
    click.option(
        "--token-file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Read the token from a file; several, one a line, are all taken. A change is noticed.",
    ),
    click.option("--insecure", is_flag=True, help="Listen beyond this machine without a token."),
    click.option("--allow-host", "allow_hosts", multiple=True, help="A further name that clients may call it by."),
    click.option(
        "--max-pending",
        type=int,
        default=_DEFAULT.max_pending,
        show_default=True,
        help="With so many tasks waiting, new ones are refused (REST) or held up (SDK) for the time being.",
    ),
    click.option(
        "--heartbeat", type=options.DURATION, default="3s", show_default=True, help="How often a worker reports."
    ),
    click.option(
        "--suspicious-after",
        type=options.DURATION,
        default="10s",
        show_default=True,
        help="A worker that is silent for so long gets nothing new.",
    ),
    click.option(
        "--offline-after",
        type=options.DURATION,
        default="20s",
        show_default=True,
        help="What a worker has that is silent for so long runs elsewhere.",
    ),
    click.option(
        "--grace",
        type=options.DURATION,
        default="60s",
        show_default=True,
        help="No worker is given up for so long after a start.",
    ),
    click.option(
        "--impossible-after",
        type=options.DURATION,
        default="10m",
        show_default=True,
        help="A task fails that no known worker could ever run, after so long.",
    ),
    click.option(
        "--kill-grace", type=options.DURATION, default="10s", show_default=True, help="From SIGTERM to SIGKILL."
    ),
    click.option(
        "--lease",
        type=options.DURATION,
        default="30s",
        show_default=True,
        help="A worker that nobody answers for so long stops its exclusive tasks.",
    ),
    click.option(
        "--lease-grace",
        type=options.DURATION,
        default="5s",
        show_default=True,
        help="From SIGTERM to SIGKILL for these.",
    ),
    click.option(
        "--exclusive-wait",
        type=options.DURATION,
        default="45s",
        show_default=True,
        help="An exclusive task of a lost worker begins anew so long after its last sign of life, and after a start; "
        "more than the two above together.",
    ),
    click.option(
        "--retention",
        type=options.DURATION,
        default="7d",
        show_default=True,
        help="How long ended tasks are kept.",
    ),
    click.option(
        "--retention-tasks", type=int, default=2_000_000, show_default=True, help="How many ended tasks are kept."
    ),
    click.option(
        "--log-retention", type=options.BYTES, default="4G", show_default=True, help="How much output is kept."
    ),
    click.option(
        "--blob-retention",
        type=options.BYTES,
        default="20G",
        show_default=True,
        help="How much of functions and large values is kept; what a task still needs stays in any case.",
    ),
    click.option(
        "--placement",
        metavar="POLICY",
        shell_complete=completing.placements,
        default=_DEFAULT.placement,
        show_default=True,
        help="Which worker gets a task that does not say: least-loaded, binpack, spread, …",
    ),
    click.option(
        "--ordering",
        type=click.Choice(get_args(OrderingName)),
        default=_DEFAULT.ordering,
        show_default=True,
        help="Which task goes first.",
    ),
    click.option(
        "--shadow",
        metavar="POLICY",
        shell_complete=completing.placements,
        help="Ask another placement, too, without effect: rota stats says what it would have done.",
    ),
    click.option(
        "--ageing",
        type=float,
        default=0.0,
        show_default=True,
        help="Points of priority that a task gains in each minute that it waits.",
    ),
    click.option(
        "--algorithm",
        type=click.Choice(list(ALGORITHMS)),
        help="Ordering and placement by the name of a classic scheduler; instead of the two.",
    ),
    click.option("--seed", type=int, help="Of all chance, to repeat a run."),
    click.option(
        "--workload",
        type=bool,
        is_flag=False,
        flag_value="true",
        default=_DEFAULT.workload,
        metavar="[true|false]",
        help="Submit synthetic tasks without end, to the queue 'workload'.",
    ),
    click.option(
        "--log-format",
        type=click.Choice(get_args(LogFormat)),
        default=_DEFAULT.log_format,
        show_default=True,
        help="How to write log lines; auto is human on a terminal.",
    ),
    click.option(
        "--log-level",
        type=click.Choice(get_args(LogLevel)),
        help="Least severe to write.  [default: info; up: warning]",
    ),
)


def coordinator_options(function: F) -> F:
    """Give a command all options of a coordinator."""
    for option in reversed(COORDINATOR_OPTIONS):
        function = option(function)
    return function


def coordinator_config(given: dict[str, Any], *, log_level: LogLevel = "info") -> CoordinatorConfig:
    """Make the configuration of the values of `COORDINATOR_OPTIONS`.

    Args:
        given: The values by their names.
        log_level: Where none was given.

    Raises:
        click.UsageError: They make no sense.
    """
    token_file = given["token_file"]
    same = ("host", "port", "grpc_port", "state_dir", "store", "durability", "insecure", "allow_hosts", "max_pending")
    names = ("placement", "ordering", "shadow", "ageing", "seed", "workload", "log_format")
    if given["algorithm"] is not None:
        given = {**given, **dict(zip(("ordering", "placement"), ALGORITHMS[given["algorithm"]], strict=True))}
    try:
        token, *more_tokens = (given["token"],) if token_file is None else options.tokens_of(token_file)
        return CoordinatorConfig(
            **{name: given[name] for name in (*same, *names)},
            token=token,
            more_tokens=tuple(more_tokens),
            token_file=token_file.absolute() if token_file is not None else None,
            heartbeat_s=given["heartbeat"],
            suspicious_after_s=given["suspicious_after"],
            offline_after_s=given["offline_after"],
            grace_s=given["grace"],
            impossible_after_s=given["impossible_after"],
            kill_grace_s=given["kill_grace"],
            lease_s=given["lease"],
            lease_grace_s=given["lease_grace"],
            exclusive_wait_s=given["exclusive_wait"],
            retention_s=given["retention"],
            retention_tasks=given["retention_tasks"],
            log_retention_bytes=given["log_retention"],
            blob_retention_bytes=given["blob_retention"],
            log_level=given["log_level"] or log_level,
        )
    except ValueError as error:
        raise click.UsageError(in_options(str(error))) from error


def arguments_of(config: CoordinatorConfig) -> list[str]:
    """Return the options that give this configuration, without its tokens: others can read a command line."""
    pairs = {
        "--host": config.host,
        "--port": config.port,
        "--grpc-port": config.grpc_port,
        "--state-dir": config.state_dir,
        "--store": config.store,
        "--durability": config.durability,
        "--max-pending": config.max_pending,
        "--heartbeat": config.heartbeat_s,
        "--suspicious-after": config.suspicious_after_s,
        "--offline-after": config.offline_after_s,
        "--grace": config.grace_s,
        "--impossible-after": config.impossible_after_s,
        "--kill-grace": config.kill_grace_s,
        "--lease": config.lease_s,
        "--lease-grace": config.lease_grace_s,
        "--exclusive-wait": config.exclusive_wait_s,
        "--retention": config.retention_s,
        "--retention-tasks": config.retention_tasks,
        "--log-retention": config.log_retention_bytes,
        "--blob-retention": config.blob_retention_bytes,
        "--placement": config.placement,
        "--ordering": config.ordering,
        "--ageing": config.ageing,
        "--log-format": config.log_format,
        "--log-level": config.log_level,
    }
    arguments = [f"{name}={value}" for name, value in pairs.items()]
    arguments += [f"--allow-host={host}" for host in config.allow_hosts]
    arguments += ["--insecure"] if config.insecure else []
    arguments += [f"--shadow={config.shadow}"] if config.shadow is not None else []
    arguments += [f"--token-file={config.token_file}"] if config.token_file is not None else []
    arguments += ["--workload=true"] if config.workload else []
    return arguments + ([f"--seed={config.seed}"] if config.seed is not None else [])


@click.command(
    epilog="""Examples:

    \b
    rota coordinator
    rota coordinator --host 0.0.0.0 --token-file token --state-dir /var/lib/rota
    rota coordinator --ordering fair --placement binpack --max-pending 100000
    """
)
@coordinator_options
def command(**given: Any) -> None:
    """Start a coordinator: it accepts tasks, decides which worker runs each, and remembers how they ended.

    It stops on SIGTERM and Ctrl-C; what runs goes on and is found again by the next start.
    """
    config = coordinator_config(given)
    from rota.coordinator.main import run  # noqa: PLC0415 - slow to import, and help does without

    raise click.exceptions.Exit(run(config))

"""How a coordinator is set up: a frozen value that refuses nonsense when it is made.

Whoever holds one knows that its thresholds are in order and that it will not listen to the
world without a token. Every field is an option of ``rota coordinator``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

from rota.wire.channel import GRPC_PORT
from rota.wire.tokens import check_token

if TYPE_CHECKING:
    from rota.store.base import Retention

__all__ = [
    "GRPC_PORT_DEFAULT",
    "CoordinatorConfig",
    "Durability",
    "LogFormat",
    "LogLevel",
    "OrderingName",
    "StoreName",
]

StoreName = Literal["sqlite", "memory"]
Durability = Literal["full", "relaxed"]
OrderingName = Literal["fcfs", "priority", "fair"]
LogFormat = Literal["auto", "human", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

PORT_MAX: Final = 65_535
GRPC_PORT_DEFAULT: Final = GRPC_PORT

LOG_RETENTION_BYTES_MIN: Final = 1 << 20
"""Less could not hold the output of one task."""

BLOB_RETENTION_BYTES_MIN: Final = 1 << 20
"""Less would hold little more than what nobody may remove."""


@dataclass(frozen=True, kw_only=True)
class CoordinatorConfig:
    """What one coordinator is told at its start.

    Args:
        host: The address to listen on.
        port: The port to listen on; 0 picks a free one.
        grpc_port: The port for gRPC, likewise; ``auto`` is 50051, or a free one where that is taken or ``port`` is 0.
        state_dir: Where the store and the logs are; made with mode 0700 if missing.
        store: Which backend remembers.
        durability: ``full`` survives a power cut, ``relaxed`` may lose the last moments in one.
        token: What every request must carry, or ``None`` for no check.
        more_tokens: What it may carry instead.
        token_file: Where these are from: it is read again when it was changed.
        insecure: Listen beyond this machine even without a token.
        allow_hosts: Further names by which clients may address it (the ``Host`` header).
        max_pending: Over so many waiting tasks, new ones are refused for the time being.
        heartbeat_s: How often a worker must report.
        suspicious_after_s: A worker silent for so long gets nothing new.
        offline_after_s: A worker silent for so long is lost, with its attempts.
        grace_s: Nobody is declared lost for so long after a start.
        impossible_after_s: A task that no known worker could ever run fails after so long.
        kill_grace_s: From SIGTERM to SIGKILL.
        lease_s: A worker that nobody answers for so long stops its exclusive tasks.
        lease_grace_s: From SIGTERM to SIGKILL for these.
        exclusive_wait_s: An exclusive task of a lost worker begins anew so long after its last sign of life.
        retention_s: How long ended tasks are kept.
        retention_tasks: How many ended tasks are kept at most.
        log_retention_bytes: How much output is kept; the oldest goes first.
        blob_retention_bytes: How much of functions and large values is kept; what was not used for longest goes first.
        placement: Which worker gets a task.
        ordering: Which task goes first.
        shadow: A placement policy that is asked beside the one that decides, without effect.
        ageing: Points of priority that a task gains in each minute that it waits.
        seed: Of all chance in the core, to repeat a run; ``None`` draws one.
        workload: Submit synthetic tasks to itself, for a cluster to look at.
        log_format: ``auto`` is human on a terminal, JSON elsewhere.
        log_level: The least severe messages to write.

    Raises:
        ValueError: A field makes no sense; the sentence names it and what was given.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    grpc_port: int | Literal["auto", "off"] = "auto"
    state_dir: Path = Path(".rota")
    store: StoreName = "sqlite"
    durability: Durability = "full"
    token: str | None = field(default=None, repr=False)
    more_tokens: tuple[str, ...] = field(default=(), repr=False)
    token_file: Path | None = None
    insecure: bool = False
    allow_hosts: tuple[str, ...] = ()
    max_pending: int = 1_000_000
    heartbeat_s: float = 3.0
    suspicious_after_s: float = 10.0
    offline_after_s: float = 20.0
    grace_s: float = 60.0
    impossible_after_s: float = 600.0
    kill_grace_s: float = 10.0
    lease_s: float = 30.0
    lease_grace_s: float = 5.0
    exclusive_wait_s: float = 45.0
    retention_s: float = 7 * 86_400.0
    retention_tasks: int = 2_000_000
    log_retention_bytes: int = 4 << 30
    blob_retention_bytes: int = 20 << 30
    placement: str = "least-loaded"
    ordering: OrderingName = "priority"
    shadow: str | None = None
    ageing: float = 0.0
    seed: int | None = None
    workload: bool = False
    log_format: LogFormat = "auto"
    log_level: LogLevel = "info"

    def __post_init__(self) -> None:
        self._check_words()
        self._check_amounts()
        self._check_thresholds()
        if self.token is not None:
            check_token(self.token)
        if not self.host:
            raise ValueError("host is empty: give an address, such as 127.0.0.1")
        if not self.is_loopback and self.token is None and not self.insecure:
            raise ValueError(
                f"host {self.host} is reachable from other machines, and whoever reaches it can run commands: "
                "set a token (--token, --token-file or ROTA_TOKEN), or say --insecure"
            )

    @property
    def retention(self) -> Retention:
        """How long ended tasks are kept, as the store is told."""
        # Only here: the options of the command line need no store.
        from rota.store.base import Retention  # noqa: PLC0415 - see above

        return Retention(max_age_s=self.retention_s, max_tasks=self.retention_tasks)

    @property
    def is_loopback(self) -> bool:
        """Say whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def _check_words(self) -> None:
        for name, words in (
            ("store", StoreName),
            ("durability", Durability),
            ("ordering", OrderingName),
            ("log_format", LogFormat),
            ("log_level", LogLevel),
        ):
            if getattr(self, name) not in get_args(words):
                raise ValueError(f"{name} must be one of {', '.join(get_args(words))}, got {getattr(self, name)!r}")

    def _check_amounts(self) -> None:
        for name, port in (("port", self.port), ("grpc_port", self.grpc_port)):
            if isinstance(port, int) and not 0 <= port <= PORT_MAX:
                raise ValueError(f"{name} must be 0 to {PORT_MAX}, got {port}")
        if self.port and self.grpc_port == self.port:
            raise ValueError(f"grpc_port must be another than port={self.port}")
        if self.max_pending < 1:
            raise ValueError(f"max_pending must be at least 1, got {self.max_pending}")
        for name, least in (
            ("log_retention_bytes", LOG_RETENTION_BYTES_MIN),
            ("blob_retention_bytes", BLOB_RETENTION_BYTES_MIN),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least:,}, got {getattr(self, name):,}")
        if not self.placement:
            raise ValueError("placement is empty: name a policy, such as least-loaded")
        if self.retention_tasks < 1:
            raise ValueError(f"retention_tasks must be at least 1, got {self.retention_tasks}")

    def _check_thresholds(self) -> None:
        for name in (
            "heartbeat_s",
            "suspicious_after_s",
            "offline_after_s",
            "impossible_after_s",
            "lease_s",
            "retention_s",
        ):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be more than 0 seconds, got {getattr(self, name):g}")
        if not 0 <= self.ageing < math.inf:
            raise ValueError(f"ageing must be at least 0 points a minute, got {self.ageing:g}")
        for name in ("grace_s", "kill_grace_s", "lease_grace_s", "exclusive_wait_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0 seconds, got {getattr(self, name):g}")
        if self.suspicious_after_s < 2 * self.heartbeat_s:
            raise ValueError(
                "suspicious_after_s must be at least twice heartbeat_s, so that one late heartbeat does no harm, "
                f"got {self.suspicious_after_s:g} for heartbeat_s={self.heartbeat_s:g}"
            )
        if self.offline_after_s <= self.suspicious_after_s:
            raise ValueError(
                "offline_after_s must be more than suspicious_after_s, "
                f"got {self.offline_after_s:g} for suspicious_after_s={self.suspicious_after_s:g}"
            )
        if self.lease_s < 2 * self.heartbeat_s:
            raise ValueError(
                "lease_s must be at least twice heartbeat_s, so that one late heartbeat ends no exclusive task, "
                f"got {self.lease_s:g} for heartbeat_s={self.heartbeat_s:g}"
            )
        if self.exclusive_wait_s <= self.lease_s + self.lease_grace_s:
            raise ValueError(
                "exclusive_wait_s must be more than lease_s and lease_grace_s together, or an exclusive task could "
                f"run twice, got {self.exclusive_wait_s:g} for {self.lease_s:g} and {self.lease_grace_s:g}"
            )

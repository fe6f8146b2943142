"""How a worker is set up: a frozen value that refuses nonsense when it is made.

Every field is an option of ``rota worker``. What is ``None`` here is found out from the
machine when the worker starts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args
from urllib.parse import SplitResult, urlsplit

from rota.core.model import Gpu
from rota.wire.channel import GRPC_PORT, Transport

__all__ = ["LogFormat", "LogLevel", "WorkerConfig"]

LogFormat = Literal["auto", "human", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

OUTPUT_LIMIT_BYTES_MIN: Final = 8 * 1024
"""Output up to 4 KiB a stream travels with the result; a limit must leave room for its first and last part."""

CACHE_LIMIT_BYTES_MIN: Final = 1 << 20

SCRATCH_LIMIT_BYTES_MIN: Final = 1 << 20
"""It is counted in MiB; the code of a snippet alone may be one."""

MAX_TASKS_MAX: Final = 100_000
"""Lanes of one worker: more than any machine could run at once."""

OVERCOMMIT_MIN: Final = 0.01
"""Less than 1 keeps a part back."""

OVERCOMMIT_MAX: Final = 100.0
"""More would be a slip of the pen."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,199}\Z")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/=-]{0,99}\Z")
_RESOURCE = re.compile(r"[a-z][a-z0-9_.-]{0,62}\Z")


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """What one worker is told at its start.

    Args:
        id: By which the coordinator knows it; one living worker for each id.
        server: Base URL of the coordinator.
        transport: How all that is said to it travels, blobs included.
        grpc_server: Where the coordinator speaks gRPC (``host:port``, or as a URL with ``grpc`` or ``grpcs``), if that
            is not port 50051 of the host of ``server``.
        addr: An address to show to people; empty if there is none.
        tags: What tasks can require.
        max_tasks: How many tasks run at once at most; ``None`` leaves it to the resources.
        resources: What to offer by name (cpu in millicores, memory in MiB), instead of what is found.
        overcommit: By how much to offer more of a resource than there is: twice the cpu as ``{"cpu": 2.0}``.
        gpus: The devices to offer instead of those that are found; empty for none.
        token: What the coordinator asks for, or ``None``.
        token_file: Where it is from: it is read again when it was changed.
        output_limit_bytes: How much of each output stream of an attempt is kept.
        cache_dir: For blobs, virtual environments, scratch directories and Go programs; if not given, the user's own.
        cache_limit_bytes: Of the blobs in it.
        scratch_limit_bytes: Of what an attempt has in its scratch directory at once; none if not given.
        ca_file: The authority to trust for ``https`` and ``grpcs``, instead of the system's.
        log_format: ``auto`` is human on a terminal, JSON elsewhere.
        log_level: The least severe messages to write.

    Raises:
        ValueError: A field makes no sense; the sentence names it and what was given.
    """

    id: str
    server: str = "http://127.0.0.1:8080"
    transport: Transport = "websocket"
    grpc_server: str | None = None
    addr: str = ""
    tags: frozenset[str] = frozenset()
    max_tasks: int | None = None
    resources: Mapping[str, int] | None = None
    overcommit: Mapping[str, float] = field(default_factory=dict)
    gpus: tuple[Gpu, ...] | None = None
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    output_limit_bytes: int = 1 << 20
    cache_dir: Path | None = None
    cache_limit_bytes: int = 4 << 30
    scratch_limit_bytes: int | None = None
    ca_file: Path | None = None
    log_format: LogFormat = "auto"
    log_level: LogLevel = "info"

    def __post_init__(self) -> None:
        self._check_names()
        self._check_server()
        self._check_amounts()
        self._check_overcommit()
        self._check_cache()
        for name, words in (("transport", Transport), ("log_format", LogFormat), ("log_level", LogLevel)):
            if getattr(self, name) not in get_args(words):
                raise ValueError(f"{name} must be one of {', '.join(get_args(words))}, got {getattr(self, name)!r}")

    @property
    def channel_url(self) -> str:
        """Where the channel is opened, for the transport.

        >>> WorkerConfig(id="w1", server="https://rota.example/lab", transport="grpc").channel_url
        'grpcs://rota.example:50051'
        """
        if self.transport == "websocket":
            return self.server
        if self.grpc_server is not None:
            return self.grpc_server if "://" in self.grpc_server else f"grpc://{self.grpc_server}"
        parts = urlsplit(self.server)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{'grpcs' if parts.scheme == 'https' else 'grpc'}://{host}:{GRPC_PORT}"

    def _check_names(self) -> None:
        if not _ID.match(self.id):
            raise ValueError(
                f"id must be 1 to 200 letters, digits or ._:@- and begin with a letter or a digit, got {self.id!r}"
            )
        for tag in sorted(self.tags):
            if not _TAG.match(tag):
                raise ValueError(f"tags: {tag!r} is not a tag: use 1 to 100 letters, digits or ._/=-")
        if not self.addr.isprintable():
            raise ValueError("addr has control characters")

    def _check_server(self) -> None:
        parts = urlsplit(self.server)
        if parts.scheme not in {"http", "https"} or not parts.hostname or not _has_sane_port(parts):
            hint = "; where it speaks gRPC is told by grpc_server" if parts.scheme in {"grpc", "grpcs"} else ""
            raise ValueError(f"server must be a URL such as http://127.0.0.1:8080, got {self.server!r}{hint}")
        if self.token is not None and not (self.token and self.token.isascii() and self.token.isprintable()):
            raise ValueError("token must be printable ASCII")
        if self.ca_file is not None and not self.ca_file.is_file():
            raise ValueError(f"ca_file {self.ca_file} is not a file")
        if self.grpc_server is not None:
            self._check_grpc_server()

    def _check_grpc_server(self) -> None:
        if self.transport != "grpc":
            raise ValueError("grpc_server goes with transport=grpc")
        parts = urlsplit(self.channel_url)
        if parts.scheme not in {"grpc", "grpcs"} or not parts.hostname or not _has_sane_port(parts) or parts.path:
            raise ValueError(f"grpc_server must be HOST:PORT or such as grpcs://host:50051, got {self.grpc_server!r}")

    def _check_amounts(self) -> None:
        if self.max_tasks is not None and not 1 <= self.max_tasks <= MAX_TASKS_MAX:
            raise ValueError(f"max_tasks must be 1 to {MAX_TASKS_MAX:,}, got {self.max_tasks:,}")
        if self.output_limit_bytes < OUTPUT_LIMIT_BYTES_MIN:
            raise ValueError(
                f"output_limit_bytes must be at least {OUTPUT_LIMIT_BYTES_MIN:,}, got {self.output_limit_bytes:,}"
            )
        for name, amount in (self.resources or {}).items():
            if not _RESOURCE.match(name):
                raise ValueError(f"resources: {name!r} can't be a name: use lower case, digits and ._-")
            if name in {"gpu", "gpu_memory"}:
                raise ValueError(
                    f"resources: {name} is matched device by device: leave it out, and say gpus=1 or gpus=24G"
                )
            if amount < 0:
                raise ValueError(f"resources: {name} can't be negative, got {amount}")

    def _check_overcommit(self) -> None:
        for name, factor in self.overcommit.items():
            if not _RESOURCE.match(name):
                raise ValueError(f"overcommit: {name!r} can't be a name: use lower case, digits and ._-")
            if name in {"gpu", "gpu_memory"}:
                raise ValueError(f"overcommit: {name} is a device: no two tasks can be given what one has of it")
            if not OVERCOMMIT_MIN <= factor <= OVERCOMMIT_MAX:
                raise ValueError(
                    f"overcommit: the factor of {name} must be {OVERCOMMIT_MIN:g} to {OVERCOMMIT_MAX:g}, got {factor:g}"
                )

    def _check_cache(self) -> None:
        if self.cache_limit_bytes < CACHE_LIMIT_BYTES_MIN:
            raise ValueError(
                f"cache_limit_bytes must be at least {CACHE_LIMIT_BYTES_MIN:,}, got {self.cache_limit_bytes:,}"
            )
        if self.scratch_limit_bytes is not None and self.scratch_limit_bytes < SCRATCH_LIMIT_BYTES_MIN:
            raise ValueError(
                f"scratch_limit_bytes must be at least {SCRATCH_LIMIT_BYTES_MIN:,}, got {self.scratch_limit_bytes:,}"
            )
        if self.cache_dir is None:
            return
        if self.cache_dir.exists() and not self.cache_dir.is_dir():
            raise ValueError(f"cache_dir {self.cache_dir} is not a directory")
        if self.cache_dir.exists() and not os.access(self.cache_dir, os.W_OK | os.X_OK):
            raise ValueError(f"cache_dir {self.cache_dir} can't be written to")


def _has_sane_port(parts: SplitResult) -> bool:
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False

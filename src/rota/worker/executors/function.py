"""Runs functions: reads of a spec what a slot needs, and makes the order for it.

Functions are many and short, and most come in long rows that differ by their arguments alone. Arguments stand last
in an encoded spec (`rota.core.spec.with_args`), so what stands before them is read once, and found again by its
bytes: 0.4 µs a task, where reading the whole spec takes 1.2. A function has the base environment
(`rota.worker.executors.process`), and on top what its task asks for; what it wants to know about itself it asks of
``rota.current()``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from rota.core.names import is_digest
from rota.core.spec import QUEUE_DEFAULT
from rota.worker.executors.base import LaunchRefused
from rota.worker.executors.process import gang_environment
from rota.worker.slots.base import Work
from rota.worker.slots.frames import FunctionOrder

__all__ = ["CallReader", "FunctionCall", "FunctionExecutor"]

HEADS_MAX: Final = 256
HEAD_BYTES_MAX: Final = 4096
"""What is remembered of specs: beginnings of so many, of so many bytes each."""

_ARGS_KEY: Final = msgspec.msgpack.encode("args")
_ARGS_HEADER_BYTES: Final = {0xC4: 2, 0xC5: 3, 0xC6: 5}
"""How long the head of a byte string is, by its first byte."""


class _Spec(Struct, gc=False):
    """The part of a spec that matters here, by the names of `rota.core.spec.TaskSpec`. The rest is skipped."""

    function: str | None = None
    kind: str | None = None
    queue: str = QUEUE_DEFAULT
    timeout: float | None = None
    resources: dict[str, int] = {}
    env: dict[str, str] = {}
    cwd: str | None = None
    requirements: list[str] = []
    blobs: list[str] = []
    args: bytes = b""


class FunctionCall(Struct, frozen=True, gc=False, eq=False):
    """How a function is called, whatever its arguments. ``needs`` are digests of blobs, the function's own first."""

    needs: tuple[str, ...]
    requirements: tuple[str, ...]
    queue: str
    timeout_s: float | None
    memory_mib: int | None
    env: dict[str, str]
    cwd: str | None


class CallReader:
    """Reads specs, and remembers how they began."""

    def __init__(self) -> None:
        self._decode = msgspec.msgpack.Decoder(_Spec).decode
        self._calls: dict[bytes, FunctionCall] = {}

    def read(self, spec: bytes) -> tuple[FunctionCall, bytes] | None:
        """The call and its arguments, or ``None`` if the spec is of another kind.

        Equal calls are usually one object.

        Raises:
            LaunchRefused: It names blobs by what is no digest, so no file may be looked for by that name.
        """
        at = spec.find(_ARGS_KEY) + len(_ARGS_KEY)
        head = spec[:at]
        call = self._calls.get(head)
        if call is not None:
            return call, spec[at + _ARGS_HEADER_BYTES[spec[at]] :]
        decoded = self._decode(spec)
        if decoded.function is None or (decoded.kind is not None and decoded.kind != "function"):
            return None
        call = _call_of(decoded)
        # The same bytes may stand in a name. The head counts the fields: where its last is the arguments, it always is.
        if len(_ARGS_KEY) <= at <= HEAD_BYTES_MAX and spec[at:] == msgspec.msgpack.encode(decoded.args):
            if len(self._calls) >= HEADS_MAX:
                self._calls.clear()
            self._calls[head] = call
        return call, decoded.args


class FunctionExecutor:
    """The executor ``function``."""

    def __init__(self, *, worker_id: str, has_gpus: bool) -> None:
        self._worker_id = worker_id
        self._has_gpus = has_gpus

    def order(
        self, call: FunctionCall, work: Work, args: bytes, *, path: str, extras: dict[str, object]
    ) -> FunctionOrder:
        """Make the order for the slot.

        Args:
            call: What to call.
            work: For which attempt.
            args: The arguments.
            path: Where the function is.
            extras: From `extras`; orders may share it.
        """
        task, attempt = work.key
        facts = work.id, call.queue, self._worker_id
        return (task, attempt, path, args, call.timeout_s, call.memory_mib, facts, extras)

    def extras(self, call: FunctionCall, work: Work, *, paths: Sequence[str], blob_dir: str) -> dict[str, object]:
        """What orders hold beyond the plain facts.

        Args:
            call: What to call.
            work: For which attempt, with the GPUs of its lane: without any of its own it must not take those of others.
            paths: Where the blobs are that the call needs, in the order of its ``needs``.
            blob_dir: Where large results belong.
        """
        extras: dict[str, object] = {"blob_dir": blob_dir}
        if len(call.needs) > 1:
            extras["blobs"] = dict(zip(call.needs[1:], paths[1:], strict=True))
        env = call.env
        if self._has_gpus or work.devices:
            env = {**env, "CUDA_VISIBLE_DEVICES": ",".join(map(str, work.devices))}
        if work.gang is not None:
            env = {**env, **gang_environment(work.gang)}
            extras["gang"] = (work.gang.id, work.gang.rank, work.gang.hosts)
        if env:
            extras["env"] = env
        if call.cwd is not None:
            extras["cwd"] = call.cwd
        return extras


def _call_of(spec: _Spec) -> FunctionCall:
    assert spec.function is not None
    needs = (spec.function, *spec.blobs)
    if not all(map(is_digest, needs)):
        raise LaunchRefused(f"a function and its blobs must be named by SHA-256 in hexadecimal, got {needs}")
    return FunctionCall(
        needs=needs,
        requirements=tuple(sorted(spec.requirements)),
        queue=spec.queue,
        timeout_s=spec.timeout,
        memory_mib=spec.resources.get("memory") or None,
        env=spec.env,
        cwd=spec.cwd,
    )

"""What a user says of a task: the fields, and what they mean to the core.

The same struct is read from JSON at the edge (``requests``), kept encoded (MessagePack) in the task's row
and sent to the worker as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from rota.core.errors import TooLarge
from rota.core.model import Backoff, GangTerms, InputFile, Resources, Shape, SyntheticWork, Terms

__all__ = [
    "EXECUTOR_TAG",
    "GANG_LABEL",
    "GO_TAG",
    "KINDS",
    "PRIORITY_WORDS",
    "PYTHON_TAG",
    "SNIPPET_KINDS",
    "SPEC_BYTES_MAX",
    "TaskRequest",
    "TaskSpec",
    "backoff_of",
    "blobs_of",
    "code_of",
    "deadline_time",
    "decode_spec",
    "encode_spec",
    "input_of",
    "kind_of",
    "priority_of",
    "resources_of",
    "snippet_kind",
    "start_time",
    "terms_of",
    "with_args",
]

SPEC_BYTES_MAX: Final = 1 << 20
"""Bytes of one encoded spec: larger inputs belong in files or blobs, not in every row and message."""

SNIPPET_KINDS: Final = ("python", "go")
"""Kinds that run code, which may come as ``data``, behind their name and a colon; ``command`` holds its arguments."""

KINDS: Final = ("process", "function", "python", "go", "container", "workload")
QUEUE_DEFAULT: Final = "default"
CLAIM_LABEL: Final = "reservation"
"""A label of this name claims the reservation that it names."""

LOSSES_DEFAULT: Final = 5
GANG_LABEL: Final = "rota.gang"
"""In the labels that tasks are found by, of members of gangs: which gang. Users can't set it."""

EXECUTOR_TAG: Final = "executor:"
"""Prefix of the tag by which a shape asks for an executor. Users can't use it."""

GO_TAG: Final = EXECUTOR_TAG + "go"
"""Of workers with a Go toolchain."""

PYTHON_TAG: Final = "python:"
"""Prefix of the tag by which a function asks for the Python that can read it: its bytecode is of one minor version."""

PRIORITY_WORDS: Final[Mapping[str, int]] = {
    "": 50,
    "low": 10,
    "medium": 50,
    "normal": 50,
    "high": 90,
    "critical": 100,
}


class TaskSpec(Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One unit of work, as its user describes it. Durations are seconds; see ``docs/reference/rest.md``.

    A function is named by the digest of its pickle, which is a blob; ``callable`` is what people call it.
    ``args`` is an envelope of ``rota.functions.envelope``, which nobody but the SDK and the slot opens; ``blobs``
    are the digests that it refers to. ``python`` is the minor version that pickled both. ``args`` stays the last
    field: see `with_args`. ``command`` beside an image, code or data is its arguments.

    ``files`` are what lies in the scratch directory, by name, before the task begins: each the digest of a blob, or an
    `InputFile`. ``outputs`` are patterns of names there (`rota.core.filenames`) of what is kept when it has ended.
    """

    name: str | None = None
    kind: str | None = None
    command: list[str] | None = None
    shell: str | None = None
    code: str | None = None
    data: str | None = None
    image: str | None = None
    workload: SyntheticWork | None = None
    env: dict[str, str] = {}
    cwd: str | None = None
    stdin: str | None = None
    resources: dict[str, int] = {}
    tags: list[str] = []
    priority: int | str | None = None
    queue: str = QUEUE_DEFAULT
    placement: str | None = None
    affinity: str | None = None
    limits: dict[str, int] = {}
    timeout: float | None = None
    retries: int = 0
    losses: int = LOSSES_DEFAULT
    backoff: float | dict[str, float] | None = None
    start_at: datetime | None = None
    delay: float | None = None
    deadline: datetime | float | None = None
    labels: dict[str, str] = {}
    function: str | None = None
    callable: str | None = None
    python: str | None = None
    requirements: list[str] = []
    blobs: list[str] = []
    exclusive: bool = False
    gang: GangTerms | None = None
    files: dict[str, str | InputFile] = {}
    outputs: list[str] = []
    args: bytes | None = None


class TaskRequest(TaskSpec, kw_only=True):
    """A spec as it is submitted: with the id its user chose, if any."""

    id: str | None = None


_spec_encoder = msgspec.msgpack.Encoder(order="deterministic")
_spec_decoder = msgspec.msgpack.Decoder(TaskSpec)

_MAP16: Final = 0xDE
_ARGS_KEY: Final = msgspec.msgpack.encode("args")


def encode_spec(spec: TaskSpec) -> bytes:
    """Encode a spec for its row and for the worker: equal specs give equal bytes.

    Raises:
        TooLarge: Over `SPEC_BYTES_MAX`.
    """
    if isinstance(spec, TaskRequest) and spec.id is not None:
        spec = replace(spec, id=None)  # left out like all that has its default: a request is encoded as its spec
    encoded = _spec_encoder.encode(spec)
    if len(encoded) > SPEC_BYTES_MAX:
        raise TooLarge(
            f"the task is {len(encoded):,} bytes: at most {SPEC_BYTES_MAX:,} are taken; "
            "send large input as a file of the task"
        )
    return encoded


def with_args(template: bytes, all_args: Sequence[bytes]) -> list[bytes]:
    """Encode specs that differ by their arguments alone, without decoding any: 0.2 µs each.

    Args:
        template: An encoded spec without arguments.
        all_args: One envelope for each spec to make.

    Returns:
        What `encode_spec` would give for each.
    """
    assert template[0] == _MAP16  # what the encoder writes for a struct that leaves its defaults out
    header = template[:1] + (int.from_bytes(template[1:3], "big") + 1).to_bytes(2, "big")
    head = header + template[3:] + _ARGS_KEY
    encode = _spec_encoder.encode
    return [head + encode(args) for args in all_args]


def decode_spec(encoded: bytes) -> TaskSpec:
    """Read what `encode_spec` wrote."""
    return _spec_decoder.decode(encoded)


def kind_of(spec: TaskSpec) -> str:
    """The executor that a checked spec asks for, said or implied by what there is to run.

    ``data`` that names no kind of snippet is for ``process``, which refuses it when it is to start it.
    """
    if spec.kind is not None:
        return spec.kind
    if spec.image is not None:
        return "container"
    if spec.data is not None:
        return snippet_kind(spec.data) or "process"
    if spec.workload is not None:
        return "workload"
    return "process" if spec.function is None else "function"


def code_of(spec: TaskSpec) -> str | None:
    """The code of a checked snippet, wherever it stands; ``None`` for other tasks.

    >>> code_of(TaskSpec(kind="python", code="a")), code_of(TaskSpec(data="go:b:c")), code_of(TaskSpec(shell="d"))
    ('a', 'b:c', None)
    """
    if spec.data is None:
        return spec.code
    return None if snippet_kind(spec.data) is None else spec.data.partition(":")[2]


def snippet_kind(data: str) -> str | None:
    """The kind of snippet that ``data`` names, if it does.

    >>> snippet_kind("python:print(1)"), snippet_kind("go:package main"), snippet_kind("python"), snippet_kind("")
    ('python', 'go', None, None)
    """
    return next((kind for kind in SNIPPET_KINDS if data.startswith(kind + ":")), None)


def resources_of(spec: TaskSpec) -> Resources:
    """What the task reserves: as said, and 1000 millicores if nothing is said of cpu."""
    amounts = {"cpu": 1000, **spec.resources}
    return tuple(sorted((name, amount) for name, amount in amounts.items() if amount))


def terms_of(spec: TaskSpec) -> Terms:
    """What the core must know of a checked spec to decide on it."""
    kind = kind_of(spec)
    tags = [*spec.tags, EXECUTOR_TAG + kind]
    if spec.python is not None:
        tags.append(PYTHON_TAG + spec.python)
    return Terms(
        shape=Shape(
            resources=resources_of(spec),
            tags=frozenset(tags),
            placement=spec.placement,
            alone="gang" if spec.gang is not None else "exclusive" if spec.exclusive else "",
            claim=spec.labels.get(CLAIM_LABEL, "") if spec.labels else "",
        ),
        priority=priority_of(spec),
        queue=spec.queue,
        class_key=spec.function or spec.name or _program(spec, kind),
        function=spec.function,
        affinity=spec.affinity,
        timeout_s=spec.timeout,
        limits=tuple(sorted((name, amount) for name, amount in spec.limits.items() if amount)) if spec.limits else (),
        retries=spec.retries,
        losses=spec.losses,
        backoff=backoff_of(spec),
        exclusive=spec.exclusive,
        gang=spec.gang,
    )


def blobs_of(spec: TaskSpec) -> tuple[str, ...]:
    """The digests that a checked spec names besides its function: those of large arguments, or of its files."""
    if not spec.files:
        return tuple(spec.blobs)
    return tuple(dict.fromkeys([*spec.blobs, *(input_of(given).digest for given in spec.files.values())]))


def input_of(given: str | InputFile) -> InputFile:
    """What a spec says of one of its files, in the long form."""
    return given if isinstance(given, InputFile) else InputFile(given)


def priority_of(spec: TaskSpec) -> int:
    """The priority of a checked spec as its number."""
    return spec.priority if isinstance(spec.priority, int) else PRIORITY_WORDS["normal"]


def backoff_of(spec: TaskSpec) -> Backoff:
    """The backoff of a checked spec, with what it leaves out filled in."""
    if spec.backoff is None:
        return Backoff()
    if isinstance(spec.backoff, dict):
        return Backoff(
            base_s=spec.backoff.get("base", Backoff().base_s),
            factor=spec.backoff.get("factor", Backoff().factor),
            cap_s=spec.backoff.get("max", Backoff().cap_s),
        )
    return Backoff(base_s=spec.backoff, cap_s=max(spec.backoff, Backoff().cap_s))


def start_time(spec: TaskSpec, *, accepted_at: float) -> float | None:
    """The wall-clock time before which the task must not start, if there is one."""
    if spec.start_at is not None:
        return spec.start_at.timestamp()
    return accepted_at + spec.delay if spec.delay else None


def deadline_time(spec: TaskSpec, *, accepted_at: float) -> float | None:
    """The wall-clock time by which the task must have ended, if there is one."""
    if isinstance(spec.deadline, datetime):
        return spec.deadline.timestamp()
    return accepted_at + spec.deadline if spec.deadline is not None else None


def _program(spec: TaskSpec, kind: str) -> str:
    """What the run times of unnamed tasks are learned for: the program, the code, or the kind of work."""
    if spec.image is not None:
        return spec.image
    code = code_of(spec)
    if code is not None:
        return f"{kind}:{hashlib.sha256(code.encode()).hexdigest()}"
    return spec.command[0] if spec.command else kind

"""The files that go with a task, and those that it is to bring back: checked where a spec enters.

Files travel as blobs, by their digests, so a spec stays small; they lie in the scratch directory of an attempt
under names that the task knows.
"""

from __future__ import annotations

from typing import Final

from rota.core.errors import BadSpec
from rota.core.filenames import find_flaw_in_name, find_flaw_in_pattern
from rota.core.model import InputFile
from rota.core.names import DIGEST_RULE, is_digest
from rota.core.spec import TaskSpec, input_of, kind_of

__all__ = ["FILES_BYTES_MAX", "FILES_MAX", "OUTPUT_PATTERNS_MAX", "check_files", "sentence_of_too_much"]

FILES_MAX: Final = 64
"""Of one task. More belong into an archive, which is one file."""

OUTPUT_PATTERNS_MAX: Final = 64

FILES_BYTES_MAX: Final = 256 << 20
"""Of all files of one task together: each attempt copies them."""

NAME_CHARS_SHOWN: Final = 100
"""Of a name that can't be: a hostile one has millions."""

FILE_KINDS: Final = ("process", "python", "go")
"""Kinds that run as a program of their own, in a scratch directory."""


def check_files(spec: TaskSpec) -> None:
    """Check and normalise ``files`` and ``outputs``, in place.

    Raises:
        BadSpec: One of them can't be; names the field and what to do.
    """
    # Before any of them is looked at: a hostile 8 MiB holds two million, which would take seconds.
    if len(spec.files) > FILES_MAX:
        raise BadSpec("files", f"has {len(spec.files):,} files: at most {FILES_MAX}; pack them into one archive")
    if len(spec.outputs) > OUTPUT_PATTERNS_MAX:
        raise BadSpec("outputs", f"has {len(spec.outputs):,} patterns: at most {OUTPUT_PATTERNS_MAX}")
    for field, flaw_of in (("files", find_flaw_in_name), ("outputs", find_flaw_in_pattern)):
        names = getattr(spec, field)
        if names and (kind := kind_of(spec)) not in FILE_KINDS:
            raise BadSpec(field, f"goes with {', '.join(FILE_KINDS)} and not with {kind}")
        if names and spec.cwd is not None:
            raise BadSpec("cwd", f"does not go with {field}: such a task runs in a scratch directory, where they are")
        for name in names:
            flaw = flaw_of(name)
            if flaw is not None:
                shown = name if len(name) <= NAME_CHARS_SHOWN else name[:NAME_CHARS_SHOWN] + "…"
                raise BadSpec(field, f"{shown!r} {flaw}")
    _check_inputs(spec)
    _check_outputs(spec.outputs)


def sentence_of_too_much(total_bytes: int) -> str:
    """What to say of files that are too large, whoever finds out."""
    return (
        f"are {total_bytes:,} bytes together: at most {FILES_BYTES_MAX:,} go with a task; put large ones on a file "
        "system that the workers share, or into an object store such as S3, and let the task read them there"
    )


def _check_inputs(spec: TaskSpec) -> None:
    for name, given in spec.files.items():
        digest = input_of(given).digest
        if not is_digest(digest):
            raise BadSpec("files", f"{name!r} must have the SHA-256 of a blob as its value: {DIGEST_RULE}")
        if isinstance(given, InputFile) and not given.executable:
            spec.files[name] = digest  # the same task, however it was written
        parts = name.split("/")
        for end in range(1, len(parts)):
            folder = "/".join(parts[:end])
            if folder in spec.files:
                raise BadSpec("files", f"{folder!r} can't be a file, and a folder with {name!r} in it")


def _check_outputs(patterns: list[str]) -> None:
    for index, pattern in enumerate(patterns):
        if pattern in patterns[:index]:
            raise BadSpec("outputs", f"{pattern!r} is there twice")

"""What goes into the scratch directory of a program, and what comes out: from its spec to an order, once it is here.

Names and digests are looked at again. Both were checked where the task came in, but they become paths here.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from rota.core.filenames import find_flaw_in_name
from rota.core.model import InputFile
from rota.core.names import is_digest
from rota.core.spec import TaskSpec, blobs_of, input_of
from rota.worker.executors.base import LaunchRefused, ScratchUse
from rota.worker.slots.frames import FreightOrder

__all__ = ["Freight", "freight_of"]


class Freight(Struct, frozen=True):
    """The files of a task, by their names, and the patterns of what it leaves. ``needs`` are the digests, each once."""

    inputs: tuple[tuple[str, InputFile], ...]
    outputs: tuple[str, ...]
    needs: tuple[str, ...]

    def order(self, paths: Sequence[str], *, blob_dir: str) -> FreightOrder:
        """What a slot must know.

        Args:
            paths: Where the blobs are, in the order of ``needs``.
            blob_dir: Where those belong that it makes.
        """
        path_of = dict(zip(self.needs, paths, strict=True))
        inputs = [(name, file.digest, path_of[file.digest], file.executable) for name, file in self.inputs]
        return inputs, list(self.outputs), blob_dir

    def check_beside(self, scratch: ScratchUse) -> None:
        """See that no file takes the place of what the executor puts there.

        Raises:
            LaunchRefused: One does.
        """
        own = dict(scratch.files)
        for name, _ in self.inputs:
            if name.partition("/")[0] in own:
                raise LaunchRefused(f"{name!r} can't be among its files: its code has this name; choose another")


def freight_of(spec: TaskSpec) -> Freight | None:
    """What a task wants carried, if anything.

    Raises:
        LaunchRefused: A name or a digest is none.
    """
    if not spec.files and not spec.outputs:
        return None
    inputs = tuple((name, input_of(given)) for name, given in spec.files.items())
    for name, file in inputs:
        if (flaw := find_flaw_in_name(name)) is not None:
            raise LaunchRefused(f"the name {name!r} of one of its files {flaw}")
        if not is_digest(file.digest):
            raise LaunchRefused(f"its file {name!r} must be named by a SHA-256 in hexadecimal, got {file.digest!r}")
    return Freight(inputs, tuple(spec.outputs), blobs_of(spec))

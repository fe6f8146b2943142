"""Work on large values that many tasks have in common: they travel once, as part of the function.

Functions are kept by workers under their digest, so what is inside one is sent and loaded once in each
process, however many tasks use it. What a single task gets refers to them by number.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

__all__ = ["SharedWork"]


class SharedWork:
    """A function of pickled work that refers to some values.

    Args:
        values: What the work refers to, by its place. Arrays can't be written to on the other side: other
            tasks use them, too.
    """

    def __init__(self, values: tuple[Any, ...]) -> None:
        self._values = values

    def __call__(self, pickled: bytes, *buffers: Any) -> Any:
        """Load work that takes no arguments, and do it."""
        return _Loader(pickled, buffers, self._values).load()()

    def __reduce__(self) -> tuple[Any, ...]:
        return _locked, (self._values,)


class _Loader(pickle.Unpickler):
    def __init__(self, pickled: bytes, buffers: tuple[Any, ...], values: tuple[Any, ...]) -> None:
        super().__init__(io.BytesIO(pickled), buffers=buffers)
        self._values = values

    def persistent_load(self, pid: Any) -> Any:
        return self._values[pid]


def _locked(values: tuple[Any, ...]) -> SharedWork:
    for value in values:
        if hasattr(value, "setflags"):
            value.setflags(write=False)
    return SharedWork(values)

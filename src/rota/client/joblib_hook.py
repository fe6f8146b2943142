"""Makes ``backend="rota"`` known to joblib, whichever of both is imported first.

If joblib is not there yet, its import is waited for by a finder at the front of Python's list, which steps
aside for good as soon as ``joblib.parallel`` is asked for. What it costs is a comparison for each import until then.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["register_joblib"]

NAME: Final = "rota"
_MODULE: Final = "joblib.parallel"


def register_joblib() -> None:
    """Make the backend known to joblib now, or when it is imported. ``rota.Client`` and ``rota.task`` do this."""
    loaded = sys.modules.get(_MODULE)
    if loaded is not None and hasattr(loaded, "BACKENDS"):
        _register(loaded)
    elif not any(isinstance(finder, _Waiter) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiter())


def _register(parallel: ModuleType) -> None:
    parallel.register_parallel_backend(NAME, _make_backend)


def _make_backend(**arguments: Any) -> Any:  # what joblib gives and wants
    # Only now: neither of both packages should load the other.
    from rota.client.joblib_backend import RotaBackend  # noqa: PLC0415 - see above

    return RotaBackend(**arguments)


class _Waiter:
    """A finder that finds one module, as the others would, and has it registered when it is loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Leave all but joblib's module to the other finders."""
        if name != _MODULE:
            return None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Registrar(spec.loader)  # type: ignore[assignment]  # has all that a loader must have
                return spec
        return None


class _Registrar:
    """A loader that registers the backend after the module was loaded by another.

    Not of ``importlib.abc``, which takes 10 ms to load.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the other loader."""
        created: ModuleType | None = self._loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        """As the other loader; then register."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _register(module)

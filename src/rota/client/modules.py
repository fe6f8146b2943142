"""Which code travels by value, and which is imported by the worker.

A function that a worker can import is sent as its name. One that it can't, is sent whole: what is defined in
``__main__`` or a notebook, and in *local* modules, which are the script's own files beside those that were
installed. A module is local if its source lies neither in the standard library, nor in an installation
directory or a path that a ``.pth`` file adds there, nor with a distribution that claims its name, editable
ones included. `pickle_by_value` says so of any other module.

The registry is cloudpickle's, one for the process. Modules are looked at when they are first seen, so that
what was imported since is known; that costs 50 µs when something was imported, else nothing.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import site
import sys
import sysconfig
import threading
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import cloudpickle

__all__ = [
    "distributions_by_module",
    "explain_import",
    "is_local",
    "mentions_local",
    "pickle_by_value",
    "refresh",
    "travels_by_value",
]

NEVER_LOCAL: Final = frozenset({"rota", "__mp_main__", *sys.stdlib_module_names})
"""Top-level names that workers have whatever the path says."""

_GLOBAL_OPCODE: Final = b"\x93"
"""STACK_GLOBAL: a pickle of protocol 4 or later without it names no module."""


class _Seen:
    """What is known of the modules of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sign = (0, "", 0)
        self.names: set[str] = set()
        self.pattern = _pattern_of(())


def pickle_by_value(module: ModuleType) -> None:
    """Send what is defined in this module along, instead of having the workers import it.

    Local modules go by value anyhow: this is for one that is installed here and not, or in another version, there.

    Args:
        module: A module or a package that was imported; all that is in a package goes by value, too.

    Raises:
        TypeError: It is no module.
    """
    if not isinstance(module, ModuleType):
        raise TypeError(f"pickle_by_value takes a module, such as `import shapes` gives, not {module!r}")
    with _seen.lock:
        cloudpickle.register_pickle_by_value(module)
        _seen.pattern = _pattern_of(cloudpickle.list_registry_pickle_by_value())


def mentions_local(pickled: bytes) -> bool:
    """Whether a pickle refers to something that the worker could not import.

    Says yes too often rather than too rarely: a text that looks like the name of a module counts.
    Takes 0.1 µs for values that are made of Python's own types.
    """
    if _GLOBAL_OPCODE not in pickled:
        return False
    refresh()
    return _seen.pattern.search(pickled) is not None


def travels_by_value(thing: Callable[..., Any] | type) -> bool:  # of any signature
    """Whether a function or class is sent whole."""
    refresh()
    module = sys.modules.get(getattr(thing, "__module__", None) or "")
    if module is None or module.__name__ == "__main__" or _is_registered(module.__name__):
        return True
    found: Any = module  # whatever the names lead to
    for name in getattr(thing, "__qualname__", "<nameless>").split("."):
        found = getattr(found, name, None)
    return found is not thing


def is_local(module: ModuleType) -> bool:
    """Whether a module is one of the user's own files, which workers don't have."""
    spec = getattr(module, "__spec__", None)
    origin = spec.origin if spec is not None and spec.has_location else getattr(module, "__file__", None)
    return _is_local_source(module.__name__, origin)


def explain_import(error: BaseException) -> None:
    """Add to an import that failed on a worker what to do about it, if this program has the module."""
    name = error.name if isinstance(error, ImportError) else None
    if not name:
        return
    top = name.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return
    if spec is None:
        return
    if _is_local_source(top, spec.origin):
        error.add_note(
            f"`{top}` is a module of your own, which the worker doesn't have: import it at the top of the file that "
            "defines the function, so that it travels with it"
        )
    else:
        error.add_note(
            f"`{top}` is installed here and not on the worker: install it there, or run the function with "
            "@rota.task(requirements=[...])"
        )


def refresh() -> None:
    """Look at the modules that were imported since the last time."""
    if _sign_of_modules() == _seen.sign:
        return
    with _seen.lock:
        sign = _sign_of_modules()
        for name, module in sys.modules.copy().items():  # a copy in one step: other threads import meanwhile
            if name in _seen.names:
                continue
            _seen.names.add(name)
            if _is_really(module, name) and not _is_registered(name) and is_local(module):
                cloudpickle.register_pickle_by_value(module)
        registered = cloudpickle.list_registry_pickle_by_value()
        _seen.pattern = _pattern_of(registered)
        _seen.sign = (*sign[:2], len(registered))  # last: until then others wait for the lock


def _sign_of_modules() -> tuple[int, str, int]:
    """Changes whenever a module comes, also where another one went, or is registered, by us or with cloudpickle.

    How many there are, which is the newest, and how many go by value.
    """
    return len(sys.modules), _newest_module(), len(cloudpickle.list_registry_pickle_by_value())


def _newest_module() -> str:
    while True:
        try:
            return next(reversed(sys.modules))
        except RuntimeError:  # another thread imported something between two of our steps
            continue


def distributions_by_module() -> Mapping[str, list[str]]:
    """Which distributions provide each top-level module. Reads all that is installed, once: about 100 ms."""
    return _distributions()


@cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _pattern_of(names: tuple[str, ...] | set[str]) -> re.Pattern[bytes]:
    """Matches a pickled text that is ``__main__``, or one of the modules, or one inside it."""
    alternatives = b"|".join(re.escape(name.encode()) for name in ("__main__", *sorted(names)))
    return re.compile(rb"\x8c.(?:" + alternatives + rb")[.\x94]", re.DOTALL)


def _is_really(module: object, name: str) -> bool:
    """Whether it is a module under its own name: other things stand among the modules, and some twice."""
    return isinstance(module, ModuleType) and module.__name__ == name


def _is_registered(name: str) -> bool:
    """Whether the module, or a package around it, travels by value."""
    registered = cloudpickle.list_registry_pickle_by_value()
    while name:
        if name in registered:
            return True
        name = name.rpartition(".")[0]
    return False


def _is_local_source(name: str, origin: object) -> bool:
    """Whether a module lies where nothing is installed. What has no Python source can't go by value."""
    top = name.partition(".")[0]
    if top in NEVER_LOCAL or not isinstance(origin, str) or not origin.endswith((".py", ".pyc")):
        return False
    path = os.path.realpath(origin)
    if _is_under(path, _installed_roots()) or _root_of(name, path) in _paths_from_pth():
        return False
    return not _is_under(path, _homes_of(top))


def _is_under(path: str, folders: tuple[str, ...]) -> bool:
    return any(path.startswith(folder) for folder in folders)


@cache
def _installed_roots() -> tuple[str, ...]:
    """Directories below which everything is installed, each with a separator at its end."""
    paths = sysconfig.get_paths()
    return _as_roots([*(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")), *_site_folders()])


@cache
def _paths_from_pth() -> tuple[str, ...]:
    """What ``.pth`` files put on the path, which is how most editable installs work.

    What lies deeper below, such as a folder of scripts, is not importable by that.
    """
    added = []
    for pth in (pth for folder in _site_folders() for pth in sorted(Path(folder).glob("*.pth"))):
        for line in pth.read_text(encoding="utf-8", errors="replace").splitlines():
            text = line.strip()
            if text and not text.startswith(("#", "import ", "import\t")):
                added.append(os.path.join(pth.parent, text))
    return _as_roots([path for path in added if os.path.isdir(path)])


def _site_folders() -> list[str]:
    return [*site.getsitepackages(), site.getusersitepackages()]


def _root_of(name: str, origin: str) -> str:
    """The directory on the path in which a module was found.

    >>> _root_of("a.b", "/home/me/a/b.py"), _root_of("a", "/home/me/a/__init__.py")
    ('/home/me/', '/home/me/')
    """
    path = Path(origin)
    depth = name.count(".") + (1 if path.stem == "__init__" else 0)
    return os.path.join(path.parents[min(depth, len(path.parents) - 1)], "")


@cache
def _homes_of(top: str) -> tuple[str, ...]:
    """Where the distributions lie that provide a top-level module, editable ones included."""
    folders = []
    for name in _distributions().get(top, ()):
        distribution = importlib.metadata.distribution(name)
        folders.append(str(distribution.locate_file("")))
        url = json.loads(distribution.read_text("direct_url.json") or "{}")
        if url.get("dir_info", {}).get("editable"):
            folders.append(unquote(urlsplit(url["url"]).path))
    return _as_roots(folders)


def _as_roots(folders: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(os.path.join(os.path.realpath(folder), "") for folder in folders))


_seen = _Seen()

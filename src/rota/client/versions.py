"""What a function needs of the packages installed here, and which workers have others.

A pickle names the modules that its loading imports; the code of a function that travels by value names those that
it imports when it runs. Both lead to the distributions that provide them, whose versions are compared
with what each worker says it has. A difference is a warning, once for each package and worker: most are
harmless, and it is the user who knows. Another Python is none of this: the coordinator places a function only
where the minor version is the same, and `warn_python` tells at once if that is nowhere.
"""

from __future__ import annotations

import importlib.metadata
import pickletools
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from types import FunctionType
from typing import Any, Final

from rota.client.callables import PYTHON
from rota.client.modules import distributions_by_module, travels_by_value
from rota.client.reach import functions_reached, names_in
from rota.core.client_protocol import NodeFacts

__all__ = ["Difference", "VersionWarning", "differences", "packages_used", "warn_differences", "warn_python"]

OPCODES_MAX: Final = 100_000
"""Read of one pickle: modules are named at its beginning rather than among a million numbers."""

NAMED_MAX: Final = 8
"""Workers named in one warning."""


class VersionWarning(UserWarning):
    """A worker has another version of a package, or of Python, than this program."""


@dataclass(frozen=True)
class Difference:
    """A package whose version on a worker is another: ``there`` is ``None`` if it has none."""

    package: str
    here: str
    worker: str
    there: str | None

    def __str__(self) -> str:
        has = f"has {self.package} {self.there}" if self.there is not None else f"has no {self.package}"
        return f"worker {self.worker} {has}, this client has {self.here}"


def packages_used(pickled: bytes, function: Callable[..., Any] | None = None) -> dict[str, str]:
    """The distributions that a pickled function uses, with their versions here.

    Looks at Python's own modules and ours as little as at what travels along. Takes 100 ms the first time.

    Args:
        pickled: A function, or arguments.
        function: The function itself: its code tells what it imports when it runs.
    """
    tops = {name.partition(".")[0] for name in _modules_in(pickled)}
    plain = getattr(function, "__wrapped__", function)
    if isinstance(plain, FunctionType) and travels_by_value(plain):
        for reached in functions_reached(plain):
            tops.update(name.partition(".")[0] for name in names_in(reached.__code__).imports)
    tops -= {"rota", "cloudpickle"}
    known = distributions_by_module()
    packages = {normal(name) for top in sorted(tops) for name in known.get(top, ())}
    return {name: version for name in sorted(packages) if (version := _version_of(name)) is not None}


def differences(packages: Mapping[str, str], nodes: Iterable[NodeFacts]) -> list[Difference]:
    """Compare the versions here with those of each worker that runs functions of this Python.

    Args:
        packages: Versions by the names of distributions, as `packages_used` gives them.
        nodes: The workers. Those that tell of no packages at all are not compared.
    """
    found = []
    for node in nodes:
        if not node.packages or node.python != PYTHON:
            continue
        theirs = {normal(name): version for name, version in node.packages.items()}
        for name, here in packages.items():
            if theirs.get(name) != here:
                found.append(Difference(name, here, node.id, theirs.get(name)))
    return found


def warn_differences(packages: Mapping[str, str], nodes: Iterable[NodeFacts], *, stacklevel: int = 2) -> None:
    """Warn of each difference, once for each package and worker in the life of this process.

    Args:
        packages: Versions by the names of distributions, as `packages_used` gives them.
        nodes: The workers.
        stacklevel: As in `warnings.warn`: 2 is the line that calls this.
    """
    for difference in differences(packages, nodes):
        if _is_new((difference.package, difference.worker)):
            warnings.warn(str(difference), VersionWarning, stacklevel=stacklevel)


def warn_python(nodes: Iterable[NodeFacts], *, stacklevel: int = 2) -> None:
    """Warn if there are workers that run functions, and none of them has this Python.

    Args:
        nodes: The workers.
        stacklevel: As in `warn_differences`.
    """
    others = [node for node in nodes if node.python]
    if not others or any(node.python == PYTHON for node in others):
        return
    names = ", ".join(f"{node.id} has {node.python}" for node in others[:NAMED_MAX])
    if _is_new(("python", names)):
        more = f" and {len(others) - NAMED_MAX} more" if len(others) > NAMED_MAX else ""
        warnings.warn(
            f"no worker has Python {PYTHON}, which this program runs under ({names}{more}): "
            "its functions wait until there is one",
            VersionWarning,
            stacklevel=stacklevel,
        )


def normal(name: str) -> str:
    """The name of a distribution in its normal form.

    >>> normal("Scikit_learn")
    'scikit-learn'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def _version_of(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _modules_in(pickled: bytes) -> set[str]:
    """The modules that loading a pickle imports: those of its globals, and those that are values in it."""
    modules: set[str] = set()
    memo: list[object] = []
    recent: list[object] = [None, None]  # the last two things on the stack, if they are texts or globals
    for opcode, argument, _ in islice(pickletools.genops(pickled), OPCODES_MAX):
        match opcode.name:
            case "MEMOIZE":
                memo.append(recent[-1])
                continue
            case "SHORT_BINUNICODE" | "BINUNICODE":
                pushed: object = argument
            case "BINGET" | "LONG_BINGET":
                pushed = memo[argument] if isinstance(argument, int) and argument < len(memo) else None
            case "STACK_GLOBAL":
                module, name = recent
                pushed = (module, name)
                if isinstance(module, str):
                    modules.add(module)
            case "TUPLE1":
                # cloudpickle's way of saying "this module".
                if recent[0] == ("cloudpickle.cloudpickle", "subimport") and isinstance(recent[1], str):
                    modules.add(recent[1])
                pushed = None
            case _:
                pushed = None
        recent = [recent[-1], pushed]
    return modules


_lock = threading.Lock()
_warned: set[tuple[str, str]] = set()


def _is_new(what: tuple[str, str]) -> bool:
    with _lock:
        if what in _warned:
            return False
        _warned.add(what)
        return True

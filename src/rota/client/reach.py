"""What a function reaches from its code: the variables it takes from outside, and what it imports.

A function that travels by value takes along its defaults, the cells of its closure, and the globals that its code
names; the functions among those do the same. This walk finds them, as names with the place where each is
looked up, so that others can see whether one was bound anew since (`rota.client.callables`), which of
them can't be pickled (`rota.client.blame`), and which packages are used (`rota.client.versions`).
"""

from __future__ import annotations

import dis
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Final

from rota.client.modules import is_local, travels_by_value

__all__ = ["MISSING", "Names", "Variable", "functions_reached", "names_in", "variables_of"]

FUNCTIONS_MAX: Final = 1000
"""Functions looked at in one walk: more are not followed."""

MISSING: Final = object()
"""The value of a name that is bound nowhere."""


@dataclass(frozen=True, eq=False, slots=True)
class Variable:
    """A name that a function takes from outside, and where it is looked up.

    ``place`` is a namespace or a cell; ``kind`` says which for people: a global, a variable of an
    enclosing function, a default, an attribute of the function or of a module.
    """

    name: str
    value: object
    place: Mapping[str, object] | CellType
    kind: str


@dataclass(frozen=True, slots=True)
class Names:
    """What a code object names, those inside it included."""

    globals: tuple[str, ...]
    attributes: tuple[str, ...]
    imports: tuple[str, ...]


@lru_cache(maxsize=4096)
def names_in(code: CodeType) -> Names:
    """Read the names from the instructions: 20 µs for a short function, once."""
    globals_: dict[str, None] = {}
    attributes: dict[str, None] = {}
    imports: dict[str, None] = {}
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            globals_[str(instruction.argval)] = None
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            attributes[str(instruction.argval)] = None
        elif instruction.opname == "IMPORT_NAME":
            imports[str(instruction.argval)] = None
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            names = names_in(inner)
            globals_ |= dict.fromkeys(names.globals)
            attributes |= dict.fromkeys(names.attributes)
            imports |= dict.fromkeys(names.imports)
    return Names(tuple(globals_), tuple(attributes), tuple(imports))


def variables_of(function: FunctionType) -> Iterator[Variable]:
    """Yield what a function takes from outside itself, unbound names included."""
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            value = cell.cell_contents
        except ValueError:
            value = MISSING
        yield Variable(name, value, cell, "variable")
    names = names_in(code)
    space = function.__globals__
    for name in names.globals:
        value = space.get(name, MISSING)
        yield Variable(name, value, space, "variable")
        if isinstance(value, ModuleType):
            yield from _used_of(value, names.attributes, {id(value)})
    for name, value in vars(function).items():
        yield Variable(name, value, vars(function), "attribute of the function")
    yield from _defaults_of(function)


def functions_reached(function: FunctionType) -> Iterator[FunctionType]:
    """Yield the function and all others that travel with it, each once."""
    waiting, seen = [function], {id(function)}
    while waiting and len(seen) <= FUNCTIONS_MAX:
        found = waiting.pop()
        yield found
        for variable in variables_of(found):
            for inner in _functions_in(variable.value):
                if id(inner) not in seen and travels_by_value(inner):
                    seen.add(id(inner))
                    waiting.append(inner)


def _used_of(module: ModuleType, attributes: tuple[str, ...], seen: set[int]) -> Iterator[Variable]:
    """The attributes of a local module, and of those in it, that have a name that the code uses."""
    if not is_local(module):
        return
    inside = vars(module)
    for name in attributes:
        value = inside.get(name, MISSING)
        if value is MISSING or id(value) in seen:
            continue
        yield Variable(name, value, inside, f"attribute of the module {module.__name__}")
        if isinstance(value, ModuleType):
            seen.add(id(value))
            yield from _used_of(value, attributes, seen)


def _functions_in(value: object) -> Iterator[FunctionType]:
    """A function itself, what a wrapper wraps, the methods of a class."""
    if isinstance(value, FunctionType):
        yield value
    elif isinstance(value, type):
        yield from (member for member in vars(value).values() if isinstance(member, FunctionType))
    elif isinstance(value, partial):
        yield from _functions_in(value.func)
    elif hasattr(value, "__dict__") and isinstance(wrapped := vars(value).get("__wrapped__"), FunctionType):
        yield wrapped


def _defaults_of(function: FunctionType) -> Iterator[Variable]:
    code = function.__code__
    defaults = function.__defaults__ or ()
    names = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
    both = {**dict(zip(names, defaults, strict=True)), **(function.__kwdefaults__ or {})}
    for name, value in both.items():
        # Defaults are bound anew as a whole, which is rare: the copy stands for them.
        yield Variable(name, value, both, "default of the parameter")

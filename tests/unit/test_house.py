"""The rules of the house, held by reading the repository: layers, sizes, docstrings, exceptions from rules.

A rule that fails names each place. The limits are those at which to stop; the aims are well below.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from typing import Final

import pytest

from tests.support.house import ROOT, Definition, Function, Import, Module, parts_of, python_modules, text_files

pytestmark = pytest.mark.xdist_group("house")
"""Where all modules are read once for all of them."""

FILE_LINES_MAX: Final = 600
FUNCTION_LINES_MAX: Final = 70
CLASS_LINES_MAX: Final = 400
PUBLIC_METHODS_MAX: Final = 20

DECIDERS: Final = ("scheduler", "turn", "pending", "cluster", "workers", "placement", "ordering")
"""Modules of the core that only a leader, or a simulated one, runs."""

NOUNS: Final = (
    "rota.core.model",
    "rota.core.spec",
    "rota.core.protocol",
    "rota.core.client_protocol",
    "rota.core.errors",
    "rota.core.filenames",
    "rota.core.files",
    "rota.core.cron",
)
"""What programs that only talk to a coordinator need of the core."""

LAYERS: Final[dict[str, tuple[str, ...]]] = {
    "core": ("rota.core",),
    "store": ("rota.core", "rota.store"),
    "v1": ("rota.v1",),
    "wire": ("rota.core", "rota.wire", "rota.v1"),
    "process": ("rota.process",),
    "coordinator": (
        "rota.core",
        "rota.store",
        "rota.wire",
        "rota.v1",
        "rota.process",
        "rota.plugins",
        "rota.workloads",
        "rota.coordinator",
    ),
    "functions": ("rota.functions",),
    "worker": ("rota.core", "rota.wire", "rota.process", "rota.functions", "rota.worker"),
    "client": (*NOUNS, "rota.wire", "rota.functions", "rota.client"),
    "cli": (*NOUNS, "rota.wire", "rota.client", "rota.cli"),
    "workloads": ("rota.core", "rota.workloads"),
    "simulator": ("rota.core", "rota.workloads", "rota.simulator"),
    "plugins": ("rota.core", "rota.plugins"),
    "__main__": ("rota.cli",),
}
"""Which of our modules a part of the house may import, with all that is inside them."""

FORBIDDEN: Final[dict[str, tuple[str, ...]]] = {"worker": tuple(f"rota.core.{name}" for name in DECIDERS)}

PROCESS_COMMANDS: Final = ("rota.cli.coordinator", "rota.cli.worker", "rota.cli.up")
"""Commands that start a leader or an agent: they import it when they run, so that the others start quickly."""

LOCAL_COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    "rota.cli.simulated": ("rota.core", "rota.simulator", "rota.workloads", "rota.store", "rota.plugins", "rota.cli"),
    "rota.cli.backup": (*LAYERS["cli"], "rota.store"),
    "rota.cli.reports": (*LAYERS["cli"], "rota.simulator"),
    "rota.cli.generated": (*LAYERS["cli"], "rota.workloads"),
}
"""What commands need that do their work here: imported when they run, like those of the processes."""

CONFIGURATIONS: Final = ("rota.coordinator.config", "rota.worker.config")
"""What those commands' options are made of: light, and refused nonsense is told before anything else is loaded."""

IMPURE: Final = frozenset(
    {
        "asyncio",
        "concurrent",
        "io",
        "logging",
        "multiprocessing",
        "os",
        "pathlib",
        "secrets",
        "select",
        "shutil",
        "signal",
        "socket",
        "sqlite3",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
        "uuid",
    }
)
"""Modules of Python's that bring a clock, I/O, threads or chance: the core is handed those as arguments."""

WITHOUT_ANY: Final = ("rota.core", "rota.store.base", "rota.wire.channel")

SOURCES: Final = python_modules("src")
ALL_PYTHON: Final = python_modules("src", "tests", "benchmarks", "examples")


def is_within(name: str, bases: tuple[str, ...]) -> bool:
    return any(name == base or name.startswith(base + ".") for base in bases)


def breaks_layers(found: Import) -> bool:
    part = found.importer.removeprefix("rota").lstrip(".").split(".")[0]
    if not is_within(found.imported, ("rota",)) or found.imported == "rota":
        return False
    if found.importer == "rota":
        return not found.is_for_types  # what it hands out is loaded when it is asked for
    if found.importer in LOCAL_COMMANDS:
        return not is_within(found.imported, LOCAL_COMMANDS[found.importer])
    if found.importer in PROCESS_COMMANDS and found.imported in CONFIGURATIONS:
        return False
    if found.is_lazy and found.importer in PROCESS_COMMANDS:
        return not is_within(found.imported, (*LAYERS["cli"], "rota.coordinator", "rota.worker"))
    return not is_within(found.imported, LAYERS.get(part, ())) or is_within(found.imported, FORBIDDEN.get(part, ()))


def breaks_purity(found: Import) -> bool:
    return is_within(found.importer, ("rota.core",)) and found.imported.split(".")[0] in IMPURE


@cache
def all_imports() -> list[Import]:
    return [found for module in SOURCES for found in module.imports()]


def shown(found: Import) -> str:
    return f"{found.importer}:{found.line} imports {found.imported}"


def test_imports_point_towards_the_core() -> None:
    assert not [shown(found) for found in all_imports() if breaks_layers(found)]


@pytest.mark.parametrize(
    "importer,imported,is_lazy,is_wrong",
    [
        ("rota.core.turn", "rota.core.model", False, False),
        ("rota.core.turn", "rota.store.base", False, True),
        ("rota.store.sqlite", "rota.wire.channel", False, True),
        ("rota.coordinator.loop", "rota.store.base", False, False),
        ("rota.coordinator.loop", "rota.worker.agent", False, True),
        ("rota.worker.main", "rota.core.agent", False, False),
        ("rota.worker.main", "rota.core.scheduler", False, True),
        ("rota.cli.ps", "rota.client.http", False, False),
        ("rota.cli.ps", "rota.core.scheduler", False, True),
        ("rota.cli.ps", "rota.coordinator.main", True, True),
        ("rota.cli.up", "rota.coordinator.main", True, False),
        ("rota.cli.up", "rota.coordinator.main", False, True),
        ("rota.cli.up", "rota.coordinator.config", False, False),
        ("rota.cli.ps", "rota.coordinator.config", False, True),
        ("rota.attic", "rota.core.model", False, True),
        ("rota.core.turn", "rota", False, False),
    ],
)
def test_layer_rule_tells_right_from_wrong(importer: str, imported: str, *, is_lazy: bool, is_wrong: bool) -> None:
    assert breaks_layers(Import(importer, imported, 1, is_lazy=is_lazy)) == is_wrong


def test_core_reaches_for_no_clock_no_io_and_no_threads() -> None:
    assert not [shown(found) for found in all_imports() if breaks_purity(found)]


def test_core_takes_chance_from_its_arguments() -> None:
    uses = [
        f"{module.shown}:{node.lineno} random.{node.attr}"
        for module in SOURCES
        if is_within(module.name, ("rota.core",))
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if node.value.id == "random" and node.attr != "Random"
    ]
    assert not uses


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph: defaultdict[str, set[str]] = defaultdict(set)
    for found in all_imports():
        if is_within(found.imported, ("rota",)) and not (found.is_lazy or found.is_for_types):
            graph[found.importer].add(found.imported)
    assert not find_cycle(graph)


def find_cycle(graph: Mapping[str, set[str]]) -> str | None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return " → ".join(error.args[1])
    return None


def test_cycle_rule_sees_a_circle() -> None:
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": set()}) is None
    assert set(find_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) or "") >= {"a", "b", "c"}


def test_files_are_small_enough_to_read() -> None:
    sizes = {module.shown: len(module.text.splitlines()) for module in ALL_PYTHON}
    assert not {name: lines for name, lines in sizes.items() if lines > FILE_LINES_MAX}


def test_functions_and_classes_are_small_enough_to_read() -> None:
    too_long = []
    for module in ALL_PYTHON:
        for part in parts_of(module):
            limit = CLASS_LINES_MAX if isinstance(part.node, ast.ClassDef) else FUNCTION_LINES_MAX
            if part.lines > limit:
                too_long.append(f"{part.where}: {part.lines} lines, at most {limit}")
    assert not too_long


def test_classes_have_few_public_methods() -> None:
    too_wide = []
    for module in SOURCES:
        for part in parts_of(module):
            methods = [child for child in part.node.body if isinstance(child, Function)]
            count = sum(not method.name.startswith("_") for method in methods)
            if isinstance(part.node, ast.ClassDef) and count > PUBLIC_METHODS_MAX:
                too_wide.append(f"{part.where}: {count} public methods, at most {PUBLIC_METHODS_MAX}")
    assert not too_wide


@pytest.mark.parametrize("module", SOURCES, ids=lambda module: module.name)
def test_module_opens_with_its_promise(module: Module) -> None:
    first_line = (ast.get_docstring(module.tree) or "").split("\n\n")[0]
    assert re.search(r"[.:!?]$", first_line), (
        f"{module.shown} must open with a docstring whose first part is a sentence"
    )


def test_every_module_lists_its_public_names() -> None:
    silent = [
        module.shown
        for module in SOURCES
        if module.exported() is None and any(not name.startswith("_") for name in defined_in(module))
    ]
    assert not silent


def test_listed_names_exist_and_are_documented() -> None:
    problems = []
    for module in SOURCES:
        definitions = defined_in(module)
        for name in module.exported() or ():
            node = definitions.get(name)
            if node is None and name not in assigned_in(module):
                problems.append(f"{module.shown}: {name} is in __all__ and nowhere else")
            elif node is not None and not ast.get_docstring(node):
                problems.append(f"{module.shown}:{node.lineno} {name} has no docstring")
    assert not problems


def test_a_type_has_one_name_and_one_home() -> None:
    homes = Counter(
        name
        for module in SOURCES
        for name, node in defined_in(module).items()
        if isinstance(node, ast.ClassDef) and name in (module.exported() or ())
    )
    assert not [name for name, count in homes.items() if count > 1]


def test_ports_and_core_say_what_their_values_are() -> None:
    uses = [
        f"{module.shown}:{node.lineno}"
        for module in SOURCES
        if is_within(module.name, WITHOUT_ANY)
        for node in ast.walk(module.tree)
        if (isinstance(node, ast.Name) and node.id == "Any") or (isinstance(node, ast.Attribute) and node.attr == "Any")
    ]
    assert not uses


UNREASONED: Final = re.compile(
    r"""
    \#\s*(?:type:\s*ignore|noqa|mypy:|ruff:|pragma:)
    (?!  # unless there follow
        (?:\[[\w,\ -]+\] | :\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*)  # the codes
        \s*[-–:\#]+\s*\w  # and, set off, words
    )
    """,
    re.VERBOSE,
)
"""An exception from a rule without both its code and a reason behind it."""


def test_exceptions_from_rules_name_the_rule_and_the_reason() -> None:
    bare = [
        f"{module.shown}:{line} {comment}"
        for module in ALL_PYTHON
        for line, comment in module.comments()
        if UNREASONED.search(comment)
    ]
    assert not bare


@pytest.mark.parametrize(
    "comment,is_wrong",
    [
        ("# type: ignore", True),
        ("# type: ignore[misc]", True),
        ("# type: ignore[misc]  # the decorator is untyped", False),
        ("# noqa", True),
        ("# noqa: BLE001", True),
        ("# noqa: BLE001 - whatever a task raises is its result", False),
        ("# noqa: BLE001, ARG001 - the caller fixes the signature", False),
        ("# a comment about noise", False),
    ],
)
def test_exception_rule_tells_right_from_wrong(comment: str, *, is_wrong: bool) -> None:
    assert bool(UNREASONED.search(comment)) == is_wrong


MACHINE_PATH: Final = re.compile(r"(?<![\w.$}~-])/(?:work|root|workspace|opt/pypi|opt/wheels)/\w")
REGISTRY: Final = re.compile(r"https?://[^\s/]*(?:pypi|pythonhosted|registry|mirror|artifactory|nexus)", re.I)
INDEX_OPTION: Final = re.compile(r"^\s*--(?:extra-)?index-url|^\s*--find-links|^\s*--trusted-host", re.M)


def test_nothing_names_a_machine_or_a_registry() -> None:
    places = []
    for path in text_files():
        text = path.read_text(encoding="utf-8", errors="replace")
        for pattern in (MACHINE_PATH, REGISTRY, INDEX_OPTION):
            places += [f"{path.relative_to(ROOT)}: {found.group()}" for found in pattern.finditer(text)]
    assert not places


def test_every_dependency_is_accounted_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[<>=!~\[; ]", requirement)[0] for requirement in wanted}
    told = set(re.findall(r"^\| `([\w-]+)` \|", (ROOT / "docs" / "dependencies.md").read_text(), re.M))
    assert told == names


def test_locks_hold_every_dependency_with_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for lock, wanted in (
        ("requirements.lock", project["dependencies"]),
        ("requirements-dev.lock", project["dependencies"] + project["optional-dependencies"]["dev"]),
    ):
        text = (ROOT / lock).read_text()
        names = {re.split(r"[<>=!~\[; ]", requirement)[0] for requirement in wanted}
        assert names <= set(re.findall(r"^([\w-]+)==.+\\\n    --hash=sha256:", text, re.M))


def defined_in(module: Module) -> dict[str, Definition]:
    """The functions and classes at the top of a module."""
    return {node.name: node for node in module.tree.body if isinstance(node, Definition)}


def assigned_in(module: Module) -> set[str]:
    """The other names at the top of a module: constants, and what a package takes in from its modules."""
    names: set[str] = set()
    for node in [*module.tree.body, *taken_in_for_types(module)]:
        match node:
            case ast.Assign(targets=targets):
                names.update(target.id for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.ImportFrom(names=aliases) if module.is_package:
                names.update(alias.asname or alias.name for alias in aliases)
            case _:
                pass
    return names


def taken_in_for_types(module: Module) -> list[ast.stmt]:
    """What a package takes in for those who check types, and hands out when it is asked for."""
    tests = [
        node for node in module.tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    return [statement for node in tests for statement in node.body]

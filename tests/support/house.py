"""Reads the repository for the tests of its own rules: modules, who imports whom, comments, files."""

from __future__ import annotations

import ast
import io
import subprocess
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Final, TypeGuard

__all__ = ["ROOT", "Definition", "Function", "Import", "Module", "Part", "parts_of", "python_modules", "text_files"]

ROOT: Final = Path(__file__).parents[2]
"""The checkout."""

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef


@dataclass(frozen=True)
class Import:
    """One module that a module imports.

    ``is_lazy`` inside a function, when that runs; ``is_for_types`` when only the type checker reads it.
    """

    importer: str
    imported: str
    line: int
    is_lazy: bool = False
    is_for_types: bool = False


@dataclass(frozen=True)
class Part:
    """A function or class, nested ones included; ``lines`` without its docstring."""

    where: str
    node: Definition
    lines: int


@dataclass(frozen=True)
class Module:
    """A Python file. ``name`` is dotted, as it is imported: ``rota.core.model``, ``tests.unit.test_house``."""

    path: Path
    name: str

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        try:
            return ast.parse(self.text, filename=str(self.path))
        except SystemError:  # CPython 3.11 miscounts its own depth where a collection ran in between (gh-106905)
            return ast.parse(self.text, filename=str(self.path))

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def shown(self) -> str:
        """Its path as people look for it."""
        return self.path.relative_to(ROOT).as_posix()

    def comments(self) -> Iterator[tuple[int, str]]:
        """Yield (line, text) of each comment, never of a string that looks like one."""
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string

    def exported(self) -> list[str] | None:
        """The names in ``__all__``, or ``None`` without one."""
        for node in self.tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                    return list(ast.literal_eval(value))
        return None

    def imports(self) -> Iterator[Import]:
        """Yield what it imports, of ours and of others, each as the most exact module name known."""
        known = {module.name for module in python_modules("src")}
        lazy = _lines_within(node for node in ast.walk(self.tree) if isinstance(node, Function))
        for_types = _lines_within(node for node in ast.walk(self.tree) if _is_for_types(node))
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                line = node.lineno
                for name in _imported_names(node, known):
                    yield Import(self.name, name, line, is_lazy=line in lazy, is_for_types=line in for_types)


@cache
def python_modules(*folders: str) -> tuple[Module, ...]:
    """The Python files of some top folders, in order of their names; without what is generated."""
    return tuple(
        sorted(
            (
                _module(path, _dotted(path, folder))
                for folder in folders
                for path in (ROOT / folder).rglob("*.py")
                if "node_modules" not in path.parts and not path.stem.endswith("_pb2")
            ),
            key=lambda module: module.name,
        )
    )


@cache
def _module(path: Path, name: str) -> Module:
    """The same one for all who ask: it is parsed once."""
    return Module(path, name)


@cache
def text_files() -> tuple[Path, ...]:
    """Every text file that is, or would be, committed; without git, every one outside hidden folders."""
    if (ROOT / ".git").exists():
        paths = {ROOT / name for name in _git_files()}
    else:
        everything = ((path, path.relative_to(ROOT).parts) for path in ROOT.rglob("*"))
        paths = {path for path, parts in everything if not any(part.startswith(".") for part in parts)}
    return tuple(sorted(path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8192]))


def _git_files() -> list[str]:
    listing = subprocess.run(
        # A container often runs the tests as another user than the checkout's owner.
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    return [name for name in listing.stdout.split("\0") if name]


def parts_of(module: Module) -> Iterator[Part]:
    """Yield the functions and classes of a module, with their sizes in lines."""
    for node in ast.walk(module.tree):
        if isinstance(node, Definition):
            where = f"{module.shown}:{node.lineno} {node.name}"
            yield Part(where, node, _lines_of(node.lineno, node) - _docstring_lines(node))


def _lines_within(statements: Iterable[ast.stmt]) -> set[int]:
    return {line for node in statements for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}


def _is_for_types(node: ast.AST) -> TypeGuard[ast.If]:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _imported_names(node: ast.Import | ast.ImportFrom, known: set[str]) -> list[str]:
    """``from rota.core import model`` means rota.core.model where that is a module, else rota.core."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    return sorted({name if (name := f"{base}.{alias.name}") in known else base for alias in node.names})


def _dotted(path: Path, folder: str) -> str:
    base = ROOT / "src" if folder == "src" else ROOT
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _docstring_lines(node: Definition) -> int:
    return _lines_of(node.body[0].lineno, node.body[0]) if ast.get_docstring(node, clean=False) is not None else 0


def _lines_of(first_line: int, node: ast.stmt) -> int:
    return (node.end_lineno or first_line) - first_line + 1

"""Which code travels by value: what the worker could not import, and nothing else."""

from __future__ import annotations

import colorsys
import importlib
import json
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import numpy as np
import pytest

from rota.client import modules
from rota.client.callables import Callables, dump_arguments
from rota.client.modules import explain_import, is_local, mentions_local, pickle_by_value, travels_by_value

SHAPES = """
import enum
import json
from dataclasses import dataclass
from typing import NamedTuple

FACTOR = 2

class Colour(enum.Enum):
    RED = 1

class Point(NamedTuple):
    x: int
    y: int

@dataclass
class Square:
    side: int
    colour: Colour = Colour.RED
    def area(self):
        return double(self.side * self.side)

def double(x):
    return x * FACTOR

def area_of(square):
    assert isinstance(square, Square), "another class of the same name"
    return json.dumps({"area": square.area(), "colour": square.colour.name})
"""

LOADER = """
import pickle, sys
function, args = pickle.loads(sys.stdin.buffer.read())
sys.stdout.write(repr(pickle.loads(function)(*pickle.loads(args))))
"""


def elsewhere(function: bytes, args: bytes) -> str:
    """What the function returns in a process that has none of our modules on its path."""
    run = subprocess.run(
        [sys.executable, "-c", LOADER], input=pickle.dumps((function, args)), cwd="/", capture_output=True, check=False
    )
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout.decode()


def module_at(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, source: str) -> ModuleType:
    path = folder.joinpath(*name.split(".")).with_suffix(".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    monkeypatch.syspath_prepend(folder)
    return importlib.import_module(name)


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    name = f"shapes_{tmp_path.name.replace('-', '_')}"
    return module_at(tmp_path, monkeypatch, name, SHAPES)


def here(x: int) -> int:
    return x + len(json.dumps(x))


def test_installed_modules_are_imported_by_the_worker() -> None:
    for module in (json, np, np.linalg, pytest, modules, cloudpickle):
        assert not is_local(module), module
    assert not travels_by_value(json.dumps)
    assert not travels_by_value(np.mean)
    assert not travels_by_value(Path)


def test_what_is_beside_the_script_travels_by_value(shapes: Any) -> None:
    assert is_local(shapes)
    assert travels_by_value(shapes.area_of)
    assert travels_by_value(shapes.Square)


def test_functions_of_test_modules_travel_by_value() -> None:
    assert is_local(sys.modules[__name__])
    assert travels_by_value(here)


def test_function_of_a_local_module_runs_where_the_module_is_missing(shapes: Any) -> None:
    template = Callables().template_of(shapes.area_of)
    envelope = b"".join(dump_arguments((shapes.Square(3),), {}))
    # Both are loaded in one process: the class of the argument is the one that the function knows.
    assert elsewhere(template.pickled, envelope[1:]) == repr('{"area": 18, "colour": "RED"}')


def test_module_as_a_variable_travels_along(shapes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "shapes_used", shapes)
    template = Callables().template_of(uses_module)
    assert elsewhere(template.pickled, pickle.dumps(())) == "10"


def uses_module() -> int:
    return int(shapes_used.double(5))  # type: ignore[name-defined]  # noqa: F821 - the test puts it there


def test_submodule_of_a_namespace_without_a_file_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_at(tmp_path, monkeypatch, "namespace_of_ours.inner.leaf", "def f(): return 'leaf'")
    assert is_local(module)
    assert elsewhere(Callables().template_of(module.f).pickled, pickle.dumps(())) == "'leaf'"


def test_arguments_that_mention_local_modules_are_told_apart(shapes: Any) -> None:
    assert mentions_local(pickle.dumps(shapes.Square(2), 5))
    assert not mentions_local(pickle.dumps(("text", shapes.__name__, 1.5), 5))
    assert not mentions_local(pickle.dumps(np.zeros(3), 5))


def test_module_in_a_folder_from_a_pth_file_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "project" / "src"
    scripts = source / "scripts"
    module = module_at(source, monkeypatch, "installed_by_pth", "def f(): pass")
    script = module_at(scripts, monkeypatch, "script_below_pth", "def f(): pass")
    assert is_local(module)
    site = tmp_path / "site"
    site.mkdir()
    (site / "project.pth").write_text(f"# comment\nimport nothing\n{source}\n/nowhere\n")
    monkeypatch.setattr(modules, "_site_folders", lambda: [str(site)])
    modules._paths_from_pth.cache_clear()
    try:
        assert not is_local(module)
        assert is_local(script)
    finally:
        modules._paths_from_pth.cache_clear()


def test_installed_module_can_be_sent_by_value(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cloudpickle.cloudpickle, "_PICKLE_BY_VALUE_MODULES", set())
    assert not travels_by_value(colorsys.rgb_to_hsv)
    pickle_by_value(colorsys)
    assert travels_by_value(colorsys.rgb_to_hsv)
    assert mentions_local(pickle.dumps(colorsys.rgb_to_hsv, 5))
    with pytest.raises(TypeError, match="takes a module"):
        pickle_by_value("colorsys")  # type: ignore[arg-type]  # that is what is refused
    modules._seen.sign = (0, "", 0)
    modules._seen.names.clear()


def test_module_that_was_registered_with_cloudpickle_itself_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    modules.refresh()
    registered = cloudpickle.list_registry_pickle_by_value()
    monkeypatch.setattr(cloudpickle.cloudpickle, "_PICKLE_BY_VALUE_MODULES", registered)
    cloudpickle.register_pickle_by_value(colorsys)
    assert mentions_local(pickle.dumps(colorsys.rgb_to_hsv, 5))


def test_modules_that_other_threads_import_meanwhile_disturb_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hasty(dict[str, ModuleType]):
        """Another thread imports something as soon as anybody goes through the modules step by step."""

        def _import(self) -> None:
            self[f"imported_meanwhile_{len(self)}"] = ModuleType("imported_meanwhile")

        def items(self) -> Any:
            for pair in super().items():
                yield pair
                self._import()

        def __reversed__(self) -> Any:
            names = super().__reversed__()
            if len(self) < before + 3:
                self._import()
            return names

    hasty = Hasty(sys.modules)
    before = len(hasty)
    monkeypatch.setattr(sys, "modules", hasty)
    modules.refresh()
    assert len(hasty) == before + 3, "somebody did import meanwhile"
    assert travels_by_value(json.dumps) is False


def test_module_that_takes_the_place_of_another_is_noticed(shapes: Any) -> None:
    modules.refresh()
    before = modules._sign_of_modules()
    newest = sys.modules.pop(before[1])
    sys.modules["another_module"] = newest
    try:
        assert modules._sign_of_modules() != before
    finally:
        del sys.modules["another_module"]
        sys.modules[before[1]] = newest


def notes_of(error: BaseException) -> str:
    explain_import(error)
    return "".join(getattr(error, "__notes__", []))


def test_import_that_failed_on_a_worker_is_explained(shapes: Any) -> None:
    assert "module of your own" in notes_of(ModuleNotFoundError("no", name=f"{shapes.__name__}.inner"))
    assert "requirements=" in notes_of(ModuleNotFoundError("no", name="numpy"))
    assert not notes_of(ModuleNotFoundError("no", name="no_such_module_anywhere"))
    assert not notes_of(ModuleNotFoundError("no"))
    assert not notes_of(ValueError("no"))

"""Differences between the packages here and on workers: seen, named, and told once."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.linalg import norm

from rota.client import versions
from rota.client.callables import PYTHON, Callables
from rota.client.decorator import task
from rota.client.versions import VersionWarning, differences, packages_used, warn_differences, warn_python
from rota.core.client_protocol import NodeFacts
from rota.core.model import WorkerId


def node(name: str, packages: dict[str, str] | None = None, python: str = PYTHON) -> NodeFacts:
    return NodeFacts(WorkerId(name), python, {"other": "1"} if packages is None else packages)


@pytest.fixture(autouse=True)
def nothing_told_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "_warned", set())


def used(function: Callable[..., Any]) -> set[str]:
    return set(packages_used(Callables().template_of(function).pickled, function))


def uses_module() -> Any:
    return np.zeros(3)


def uses_global() -> Any:
    return norm([1.0])


def imports_inside() -> Any:
    import tqdm.auto  # noqa: PLC0415 - this is what is looked for

    return tqdm.auto


def calls_another() -> Any:
    return imports_inside(), uses_module()


def uses_nothing(numpy: int = 1) -> Any:
    return {"tqdm": numpy}


def test_packages_are_found_wherever_they_are_named() -> None:
    assert used(np.mean) == {"numpy"}
    assert used(uses_module) == {"numpy"}
    assert used(uses_global) == {"numpy"}
    assert used(imports_inside) == {"tqdm"}
    assert used(calls_another) == {"numpy", "tqdm"}
    assert used(task(retries=1)(calls_another)) == {"numpy", "tqdm"}


def test_names_that_only_look_like_packages_are_not() -> None:
    assert used(uses_nothing) == set()
    assert used(sum) == set()


def test_versions_are_those_installed_here() -> None:
    assert packages_used(Callables().template_of(np.mean).pickled) == {"numpy": np.__version__}


def test_difference_names_both() -> None:
    found = differences(
        {"numpy": "2.1.0", "scikit-learn": "1.6"},
        [
            node("w1", {"numpy": "2.1.0", "Scikit_Learn": "1.6"}),
            node("w2", {"NumPy": "1.26.4"}),
            node("w3", {}),
            node("w4", {"numpy": "1.0"}, python="3.8"),
        ],
    )
    assert [str(one) for one in found] == [
        "worker w2 has numpy 1.26.4, this client has 2.1.0",
        "worker w2 has no scikit-learn, this client has 1.6",
    ]


def test_warning_comes_once_for_each_package_and_worker() -> None:
    nodes = [node("w1", {"numpy": "1"}), node("w2", {"numpy": "1"})]
    with pytest.warns(VersionWarning) as told:
        warn_differences({"numpy": "2"}, nodes)
    assert [str(one.message) for one in told] == [
        "worker w1 has numpy 1, this client has 2",
        "worker w2 has numpy 1, this client has 2",
    ]
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_differences({"numpy": "2"}, nodes)
    with pytest.warns(VersionWarning, match="w3"):
        warn_differences({"numpy": "2"}, [*nodes, node("w3", {"numpy": "1"})])


def test_missing_python_is_told_with_what_there_is() -> None:
    with pytest.warns(VersionWarning, match=rf"no worker has Python {PYTHON}.*w1 has 3\.8, w2 has 3\.9\)"):
        warn_python([node("w1", python="3.8"), node("w2", python="3.9"), node("processes only", python="")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_python([node("w1", python="3.8"), node("w2", python="3.9")])
        warn_python([node("w3", python="3.8"), node("w4")])
        warn_python([])
        warn_python([node("processes only", python="")])

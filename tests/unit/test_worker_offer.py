"""What a worker says of itself when it says hello."""

from __future__ import annotations

import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from rota.worker import offer
from rota.worker.config import WorkerConfig
from rota.worker.offer import installed_packages, make_offer


def test_an_offer_names_kinds_python_and_packages() -> None:
    made = make_offer(WorkerConfig(id="w1"))
    assert made.kinds == {"process", "function", "workload", "python"}
    assert made.python == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert made.packages["cloudpickle"] == version("cloudpickle")
    assert made.packages["msgspec"] == version("msgspec")


def test_a_worker_offers_more_than_it_has_where_it_is_told_to() -> None:
    said = {"cpu": 4000, "memory": 1001, "disk": 7}
    made = make_offer(WorkerConfig(id="w1", resources=said, overcommit={"cpu": 2.0, "memory": 0.5, "tape": 9.0}))
    assert dict(made.resources) == {"cpu": 8000, "memory": 500, "disk": 7}


def test_a_worker_whose_python_can_not_read_functions_still_runs_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offer, "find_spec", lambda name: None)
    made = make_offer(WorkerConfig(id="w1"))
    assert made.kinds == {"process", "workload", "python"}
    assert not made.python
    assert not made.packages


@pytest.mark.parametrize(
    "folder,name,number",
    [
        ("numpy-2.1.0.dist-info", "numpy", "2.1.0"),
        ("scikit_learn-1.6.0.dist-info", "scikit-learn", "1.6.0"),
        ("Jinja2-3.1.4.dist-info", "jinja2", "3.1.4"),
        ("zope.interface-7.0.dist-info", "zope-interface", "7.0"),
        ("PyYAML-6.0-py3.11.egg-info", "pyyaml", "6.0"),
        ("six-1.16.0.egg-info", "six", "1.16.0"),
        ("torch-2.4.0+cu121.dist-info", "torch", "2.4.0+cu121"),
    ],
)
def test_packages_are_read_from_the_names_of_their_folders(tmp_path: Path, folder: str, name: str, number: str) -> None:
    (tmp_path / folder).mkdir()
    assert installed_packages([str(tmp_path)]) == {name: number}


def test_what_comes_first_on_the_path_counts(tmp_path: Path) -> None:
    for number, folder in (("2.0", "first"), ("1.0", "second")):
        (tmp_path / folder / f"a-{number}.dist-info").mkdir(parents=True)
    (tmp_path / "second" / "b.py").touch()
    paths = [str(tmp_path / name) for name in ("missing", "first", "second")]
    assert installed_packages(paths) == {"a": "2.0"}


def test_only_so_many_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offer, "PACKAGES_MAX", 3)
    for number in range(9):
        (tmp_path / f"p{number}-1.dist-info").mkdir()
    assert len(installed_packages([str(tmp_path)])) == 3
    assert re.match("p0", next(iter(installed_packages([str(tmp_path)]))))

"""A placement policy of another package: found by its entry point, used by a coordinator, and harmless if broken."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rota.core.errors import BadSpec
from tests.support.real_cluster import Cluster

DOCUMENT = Path(__file__).parents[2] / "docs" / "placement.md"


def install(directory: Path, code: str, *, name: str = "last-by-name", value: str = "my_package:LastByName") -> None:
    """Lay a package out as an installer does."""
    directory.mkdir(exist_ok=True)
    (directory / "my_package.py").write_text(code)
    info = directory / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[rota.placement]\n{name} = {value}\n")


def documented_policy() -> str:
    [code] = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
    return str(code)


def test_the_policy_of_the_documents_places_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", documented_policy())
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    with Cluster(tmp_path, "--placement=last-by-name") as cluster:
        cluster.start_coordinator()
        for name in ("w1", "w3", "w2"):
            cluster.start_worker(name, "--resources=cpu=2000,memory=1G")
        tasks = [cluster.client.submit({"command": ["sleep", "60"], "resources": {"cpu": 1000}}) for _ in range(3)]
        placed = [cluster.wait_for_state(task["id"], "running")["worker"] for task in tasks]
        assert placed == ["w3", "w3", "w2"]
        other = cluster.client.submit({"command": ["sleep", "60"], "placement": "first-fit"})
        assert cluster.wait_for_state(other["id"], "running")["worker"] == "w1"


RAISES_WHEN_MADE = """
from rota.core.placement.first_fit import FirstFit
class Policy(FirstFit):
    def __init__(self, rng):
        raise OSError("no licence")
"""

BROKEN = {
    "import nothing_like_it": "ModuleNotFoundError: No module named 'nothing_like_it'",
    "Policy = dict": "TypeError: my_package:Policy is no subclass of rota.core.placement.base.PlacementPolicy",
    RAISES_WHEN_MADE: "OSError: no licence",
}


@pytest.mark.parametrize("option", ["--placement", "--shadow"])
@pytest.mark.parametrize("code,problem", BROKEN.items(), ids=["import", "class", "made"])
def test_a_broken_package_that_is_asked_for_is_said_at_the_start(
    tmp_path: Path, option: str, code: str, problem: str
) -> None:
    install(tmp_path / "site", code, name="mine", value="my_package:Policy")
    done = start_coordinator(tmp_path, f"{option}=mine", PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == 78
    said = f"rota: {option}: the policy 'mine' of the package my-package can't be used: {problem}"
    assert done.stderr.splitlines()[-1] == said


def test_a_broken_package_that_nobody_asks_for_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "import nothing_like_it", name="mine", value="my_package:Policy")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    with Cluster(tmp_path) as cluster:
        cluster.start_coordinator()
        cluster.start_worker("w1", "--resources=cpu=1000,memory=1G")
        with pytest.raises(BadSpec, match="'mine' of the package my-package can't be used: ModuleNotFoundError"):
            cluster.client.submit({"command": ["true"], "placement": "mine"})
        with pytest.raises(BadSpec, match="'mine' of the package my-package can't be used"):
            cluster.client.shares.set_queue("q", {"placement": "mine"})
        task = cluster.client.submit({"command": ["true"]})
        assert cluster.wait_for_end(task["id"])["state"] == "completed"


def test_a_name_of_ours_stays_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", documented_policy(), name="first-fit")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    with Cluster(tmp_path, "--placement=first-fit") as cluster:
        cluster.start_coordinator()
        for name in ("w1", "w2"):
            cluster.start_worker(name, "--resources=cpu=1000,memory=1G")
        assert cluster.wait_for_end(cluster.client.submit({"command": ["true"]})["id"])["worker"] == "w1"
        assert "placement_policy_left_out" in cluster.coordinator.output()


def test_a_policy_that_raises_while_it_places_is_replaced_and_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = documented_policy().replace("last = ", "raise LookupError('no names')\n            last = ")
    install(tmp_path / "site", code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    with Cluster(tmp_path, "--placement=last-by-name") as cluster:
        cluster.start_coordinator()
        cluster.start_worker("w1", "--resources=cpu=1000,memory=1G")
        ids = [cluster.client.submit({"command": ["true"]})["id"] for _ in range(5)]
        assert {cluster.wait_for_end(task_id)["state"] for task_id in ids} == {"completed"}
        cluster.client.submit({"command": ["sleep", "60"]})
        waiting = cluster.client.submit({"command": ["true"]})["id"]
        assert "'last-by-name' has failed (LookupError: no names): least-loaded stands in" in str(
            cluster.client.explain(waiting)["text"]
        )
        assert "rota_placement_policies_failed_total 1.0" in cluster.client.metrics()
        said = cluster.coordinator.output()
        assert said.count("placement_policy_failed") == 1
        assert "in choose" in said, "the log has the traceback"
        assert "my_package.py" in said


@pytest.mark.parametrize("option", ["--placement", "--shadow"])
def test_a_policy_that_is_not_there_is_said_at_the_start_with_the_near_name(tmp_path: Path, option: str) -> None:
    done = start_coordinator(tmp_path, f"{option}=binpak")
    assert (done.returncode, done.stderr) == (
        78,
        f"rota: {option}: there is no policy 'binpak'; did you mean `binpack`?\n",
    )


def start_coordinator(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rota", "coordinator", "--port=0", f"--state-dir={folder / 'state'}", *arguments],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

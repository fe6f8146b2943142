"""A placement policy of another package: found by its entry point, used by a real coordinator, refused if broken."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    "code,name,value,sentence",
    [
        ("import nothing_like_it", "mine", "my_package:Policy", "can't be loaded: ModuleNotFoundError"),
        ("Policy = dict", "mine", "my_package:Policy", "is no subclass of"),
        (None, "binpack", "my_package:LastByName", "has a name that is taken"),
    ],
)
def test_a_broken_package_is_said_at_the_start(
    tmp_path: Path, code: str | None, name: str, value: str, sentence: str
) -> None:
    install(tmp_path / "site", code or documented_policy(), name=name, value=value)
    done = start_coordinator(tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == 78
    assert sentence in done.stderr


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

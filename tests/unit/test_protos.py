"""What is generated from the contracts is what is checked in."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.house import ROOT

GENERATED = ROOT / "src" / "rota" / "v1"


def test_messages_are_generated_from_the_contracts_as_they_are(tmp_path: Path) -> None:
    subprocess.run(["scripts/make-protos", str(tmp_path)], cwd=ROOT, check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "rota" / "v1").iterdir()}
    kept = {path.name: path.read_text() for path in GENERATED.glob("*_pb2.py*")}
    assert made == kept, "run `make protos`"

"""The Go toolchain of a machine: found once, when the worker starts, and only if it works.

It is given nothing of the worker's environment but the base of all tasks, no network and no settings of the user's:
equal code and an equal toolchain must give an equal program.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from shutil import which
from typing import Final, NamedTuple

import structlog

from rota.worker.executors.process import base_environment

__all__ = ["USUAL_PATH", "GoToolchain", "find_go", "go_environment"]

USUAL_PATH: Final = "/usr/local/go/bin/go"
"""Where Go's own installer puts it, which is on nobody's PATH by itself."""

ASK_S_MAX: Final = 20.0
"""For an answer of the toolchain, from a cold disk."""

_VERSION: Final = re.compile(r"\bgo(\d+\.\d+)")

log = structlog.get_logger(__name__)


class GoToolchain(NamedTuple):
    """A toolchain that works: where it is, its full version, and what it builds for."""

    path: str
    version: str
    platform: str

    @property
    def language(self) -> str:
        """The version of the language: ``1.19`` of ``go1.19.8``."""
        found = _VERSION.search(self.version)
        assert found is not None  # or it would not have been made
        return found[1]

    @property
    def tags(self) -> frozenset[str]:
        """What a worker with it offers: ``go``, and ``go-1.19``, so that tasks may ask for ``go>=1.18``."""
        return frozenset({"go", f"go-{self.language}"})


def find_go(own: Mapping[str, str]) -> GoToolchain | None:
    """The toolchain in the PATH of this environment, or in the usual place; ``None`` if none is there that works."""
    path = which("go", path=own.get("PATH")) or (USUAL_PATH if os.access(USUAL_PATH, os.X_OK) else None)
    if path is None:
        return None
    try:
        answer = subprocess.run(
            [path, "env", "GOVERSION", "GOROOT", "GOOS", "GOARCH"],
            env=go_environment(own, cache="/nonexistent", work="/nonexistent"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ASK_S_MAX,
            check=True,
        )
        version, root, system, machine = answer.stdout.splitlines()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        log.warning("go_unusable", path=path, error=str(error))
        return None
    if _VERSION.search(version) is None or not Path(root, "src", "fmt").is_dir():
        log.warning("go_unusable", path=path, version=version, hint=f"no standard library in {root}")
        return None
    return GoToolchain(path, version, f"{system}/{machine}")


def go_environment(own: Mapping[str, str], *, cache: str, work: str) -> dict[str, str]:
    """What the toolchain is given: no network, no C compiler, nobody's settings.

    Args:
        own: The worker's environment.
        cache: Where it keeps what it has compiled.
        work: For its temporary files and what else it may want to write.
    """
    return {
        **base_environment(own),
        "CGO_ENABLED": "0",
        "GO111MODULE": "on",
        "GOCACHE": cache,
        "GOENV": "off",
        "GOFLAGS": "",
        "GOPATH": f"{work}/path",
        "GOPROXY": "off",
        "GOTELEMETRY": "off",
        "GOTMPDIR": work,
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }

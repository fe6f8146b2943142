"""What a worker offers: what its machine has, unless its settings say otherwise."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Final

from rota import __version__
from rota.core.model import Offer, Resources
from rota.worker.config import WorkerConfig
from rota.worker.machine import detect_machine, offered_resources
from rota.worker.toolchain import GoToolchain

__all__ = ["installed_packages", "make_offer", "overcommitted"]

MAX_TASKS_UNSAID = 100_000
"""No bound: the resources decide."""

PROGRAM_KINDS: Final = frozenset({"process", "workload", "python"})
"""What every worker runs."""

PACKAGES_MAX: Final = 500
"""Of those installed: what goes into each hello."""

_METADATA: Final = re.compile(r"(?P<name>[A-Za-z0-9._]+?)-(?P<version>[^-]+)(?:-py[0-9.]+)?\.(?:dist-info|egg-info)\Z")


def make_offer(config: WorkerConfig, *, go: GoToolchain | None = None) -> Offer:
    """Look at the machine, and put what was said over what was found.

    Args:
        config: What was said.
        go: The toolchain, if this worker has one.
    """
    machine = detect_machine()
    runs_functions = find_spec("cloudpickle") is not None
    return Offer(
        resources=overcommitted(
            offered_resources(machine, config.resources, max_tasks=config.max_tasks), config.overcommit
        ),
        tags=config.tags if go is None else config.tags | go.tags,
        max_tasks=config.max_tasks if config.max_tasks is not None else MAX_TASKS_UNSAID,
        gpus=config.gpus if config.gpus is not None else machine.gpus,
        kinds=PROGRAM_KINDS | ({"function"} if runs_functions else set()) | ({"go"} if go is not None else set()),
        addr=config.addr,
        host=machine.host,
        version=__version__,
        pid=os.getpid(),
        python=f"{sys.version_info.major}.{sys.version_info.minor}" if runs_functions else "",
        packages=installed_packages(sys.path) if runs_functions else {},
    )


def overcommitted(resources: Resources, factors: Mapping[str, float]) -> Resources:
    """Multiply amounts by the factors given for them, rounded down; one of which nothing is offered stays out.

    >>> overcommitted((("cpu", 4000), ("memory", 1001)), {"cpu": 2.0, "memory": 0.5, "disk": 3.0})
    (('cpu', 8000), ('memory', 500))
    """
    return tuple((name, int(amount * factors.get(name, 1.0))) for name, amount in resources)


def installed_packages(search_path: Sequence[str]) -> dict[str, str]:
    """The versions of what is installed, by names in lower case with hyphens.

    Read from the names of the folders alone: ``importlib.metadata`` opens a file in each, which takes 50 times as long.
    """
    found: dict[str, str] = {}
    for folder in search_path:
        try:
            names = os.listdir(folder or ".")
        except OSError:  # a zip file, or nothing
            continue
        for name in names:
            if (match := _METADATA.match(name)) is not None:
                # What comes first on the path is what is imported.
                found.setdefault(re.sub("[-_.]+", "-", match["name"]).lower(), match["version"])
    return dict(sorted(found.items())[:PACKAGES_MAX])

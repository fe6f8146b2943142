"""What a worker offers: what its machine has, unless its settings say otherwise."""

from __future__ import annotations

import os

from rota import __version__
from rota.core.model import Offer
from rota.worker.config import WorkerConfig
from rota.worker.machine import detect_machine, offered_resources

__all__ = ["make_offer"]

MAX_TASKS_UNSAID = 100_000
"""No bound: the resources decide."""


def make_offer(config: WorkerConfig) -> Offer:
    """Look at the machine, and put what was said over what was found."""
    machine = detect_machine()
    return Offer(
        resources=offered_resources(machine, config.resources, max_tasks=config.max_tasks),
        tags=config.tags,
        max_tasks=config.max_tasks if config.max_tasks is not None else MAX_TASKS_UNSAID,
        gpus=config.gpus if config.gpus is not None else machine.gpus,
        kinds=frozenset({"process"}),
        addr=config.addr,
        host=machine.host,
        version=__version__,
        pid=os.getpid(),
    )

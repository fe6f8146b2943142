"""What a function leaves running: removed when it ends, so that nothing of a task outlives its end.

The runner is a subreaper, so the kernel's word that it has no child is the word that nothing is left. Python's
resource trackers are spared: each is a helper of this process that every later call would miss.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Final

from rota.worker.slots.linux import SIGKILL
from rota.worker.slots.tree import Reaped, kill_tree

__all__ = ["kill_children"]

EMPTY_WITHIN_S: Final = 5.0

TRACKERS: Final = (
    "multiprocessing.resource_tracker",
    "loky.backend.resource_tracker",
    "joblib.externals.loky.backend.resource_tracker",
)


def kill_children() -> bool:
    """Kill and reap everything below this process but trackers; return whether that came to an end.

    Without children it takes a microsecond.
    """
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    _stop_fork_server()
    return kill_tree(Reaped(0), EMPTY_WITHIN_S, spare=_trackers())


def _trackers() -> frozenset[int]:
    modules = (sys.modules.get(name) for name in TRACKERS)
    pids = (getattr(getattr(module, "_resource_tracker", None), "_pid", None) for module in modules)
    return frozenset(pid for pid in pids if isinstance(pid, int))


def _stop_fork_server() -> None:
    """Let the module know that its server is gone: it would fail for ever if somebody else reaped that one."""
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    pid = getattr(server, "_forkserver_pid", None)
    if isinstance(pid, int):
        with suppress(Exception):  # of another Python's, which may look different inside
            os.kill(pid, SIGKILL)
            server._stop()  # type: ignore[union-attr]  # noqa: SLF001 - there is no public way

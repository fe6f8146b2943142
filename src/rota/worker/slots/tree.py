"""The processes below a slot or keeper: who they are, what memory they use, and their end.

The owner is a *subreaper*: whatever loses its parent below becomes the owner's child, also what
double-forked and called ``setsid``. So its tree is empty exactly when the kernel says that the
owner has no child left (ECHILD), and killing it is a loop until then: what forks between two
rounds is found in the next.
"""

import os
import time

from rota.worker.slots.linux import SIGKILL

__all__ = ["Reaped", "descendants", "kill_tree", "proportional_kib", "resident_kib"]

FIRST_PAUSE_S = 0.0002
"""Between killing and looking again: a killed process takes about this long to go."""

PAUSE_S_MAX = 0.02

_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024


class Reaped:
    """What the reaped processes of one attempt used, and how its main process ended.

    ``main_status`` is the wait status of the main process, ``None`` until that one is reaped;
    ``is_empty`` is set once nothing is left. ``cpu_s`` is user and system time of all that was reaped
    here; children that a task waited for itself are in their parent's figure.
    """

    __slots__ = ("cpu_s", "is_empty", "main_pid", "main_status", "maxrss_kib")

    def __init__(self, main_pid: int) -> None:
        self.main_pid = main_pid
        self.main_status: int | None = None
        self.cpu_s = 0.0
        self.maxrss_kib = 0
        self.is_empty = False

    def reap(self) -> bool:
        """Reap all that has ended; return, and note, whether no child is left."""
        try:
            while True:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
                if not pid:
                    return False
                self.cpu_s += usage.ru_utime + usage.ru_stime
                self.maxrss_kib = max(self.maxrss_kib, usage.ru_maxrss)
                if pid == self.main_pid:
                    self.main_status = status
        except ChildProcessError:
            self.is_empty = True
            return True


def kill_tree(reaped: Reaped, within_s: float, *, spare: frozenset[int] = frozenset()) -> bool:
    """Kill every process below this one, and reap them.

    Args:
        reaped: Takes what they used.
        within_s: After which it is given up.
        spare: Children to leave alone, with all below them.

    Returns:
        Whether nothing is left. What can't be killed is in the kernel (state D), traced, or another user's.
    """
    gives_up_at = time.monotonic() + within_s
    pause_s = FIRST_PAUSE_S
    own = os.getpid()
    while True:
        victims = descendants(own, spare=spare)
        for pid in victims:
            _kill(pid)
        if reaped.reap() or (spare and not victims):
            return True
        if time.monotonic() >= gives_up_at:
            return False
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSE_S_MAX)


def descendants(root: int, *, spare: frozenset[int] = frozenset()) -> list[int]:
    """Return the pids below ``root``, parents first, without ``spare`` and what is below those."""
    found: list[int] = []
    waiting = [root]
    while waiting:
        children = [pid for pid in _children(waiting.pop()) if pid not in spare]
        found += children
        waiting += children
    return found


def resident_kib(pid: int) -> int:
    """Return the resident memory of a process, shared pages included; 0 if it is gone."""
    fields = _read(f"/proc/{pid}/statm").split()
    return int(fields[1]) * _PAGE_KIB if len(fields) > 1 else 0


def proportional_kib(pid: int) -> int:
    """Return its memory with each shared page divided among its users; 0 if it is gone or another user's.

    Walks the page tables, so it costs milliseconds a gibibyte: for a second look only.
    """
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1])
    return 0


def _children(pid: int) -> list[int]:
    """The children of a process: each of its threads has a list of those that it forked."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [int(child) for thread in threads for child in _read(f"/proc/{pid}/task/{thread}/children").split()]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # gone already, or another user's (a setuid program): reaping shows which


def _read(path: str) -> bytes:
    """A small file of ``/proc``; empty if its process is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    parts = []
    try:
        # To the end: a list of children that was cut in the middle of a pid would name another process.
        while part := os.read(fd, 65536):
            parts.append(part)
    except OSError:
        return b""
    finally:
        os.close(fd)
    return b"".join(parts)

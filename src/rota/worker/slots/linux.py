"""What keeper and slots need of Linux and Python offers only in large modules, or not at all.

`signal` and `enum` together are 0.7 MiB of every slot, so the C module below them is used. On other
systems this module refuses to load: there are no subreapers, pidfds or ``/proc`` there, and without
them nobody can promise that nothing of a task remains.
"""

# typeshed has no stubs of it; its functions are those of `signal`, with plain integers.
import _signal  # type: ignore[import-not-found] # no stubs, and `signal` would cost each slot 0.7 MiB
import ctypes
import os
import resource
import sys

__all__ = [
    "IGNORED_SIGNALS",
    "SIGKILL",
    "SIGTERM",
    "become_subreaper",
    "die_with_parent",
    "handler_of",
    "hold_child_signals",
    "ignore_signals",
    "limit_files",
    "name_process",
    "wait_for_child",
]

if sys.platform != "linux":
    raise ImportError(f"slots need Linux (subreapers, pidfds, /proc); this is {sys.platform}")

SIGKILL: int = _signal.SIGKILL
SIGTERM: int = _signal.SIGTERM

IGNORED_SIGNALS: tuple[int, ...] = (
    _signal.SIGINT,
    _signal.SIGHUP,
    _signal.SIGTERM,
    _signal.SIGPIPE,
    _signal.SIGXFSZ,
)
"""Signals that keeper and slots ignore, and that are set back for tasks.

A service manager that signals every process of the service must not tear slots from under the agent:
when that one leaves, so do they. Python itself ignores the last two.
"""

_CHILD_ENDED = (_signal.SIGCHLD,)
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Adopt, from now on, every process below that loses its parent. Not inherited by forks."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "can't become a subreaper")


def die_with_parent(parent: int) -> None:
    """Have this process killed when ``parent``, which forked it, ends; leave at once if it has. Not inherited."""
    _libc.prctl(_PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def name_process(name: str) -> None:
    """Set what ``ps`` and ``top`` show: at most 15 bytes."""
    _libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def limit_files(count: int) -> None:
    """Let this process, and what it starts, open so many files from now on; those that are open stay so."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def handler_of(number: int) -> object:
    """What is called for a signal: `signal.getsignal` without its search for a name, which costs 3 µs."""
    return _signal.getsignal(number)


def hold_child_signals() -> None:
    """Keep SIGCHLD pending for `wait_for_child`, from now on."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _CHILD_ENDED)


def wait_for_child(timeout_s: float) -> bool:
    """Return whether a child has ended, now or since the last call: in one system call, without a descriptor."""
    return _signal.sigtimedwait(_CHILD_ENDED, timeout_s) is not None


def ignore_signals() -> None:
    """Ignore `IGNORED_SIGNALS`, for good."""
    for number in IGNORED_SIGNALS:
        _signal.signal(number, _signal.SIG_IGN)

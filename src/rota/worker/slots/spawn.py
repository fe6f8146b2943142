"""Starting a program: looked up in the task's PATH, in its directory, with nothing of ours but three pipes.

`os.posix_spawn` starts a child without copying the page tables of this process, which is
what makes a small program cost little more than its own exec. Every reason for which a
program can't start is a sentence for the person who submitted the task.
"""

import errno
import os

from rota.worker.slots.linux import IGNORED_SIGNALS

__all__ = ["LaunchFailed", "Spawner"]

DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
"""Where programs are looked for when neither the task nor the worker has a PATH."""


class LaunchFailed(Exception):
    """The program can't be started; the text says why. ``cause`` is how such an attempt ends."""

    cause = "launch-error"


class Spawner:
    """Starts programs on two output pipes, one after another."""

    def __init__(self, stdout_fd: int, stderr_fd: int, *, base_env: dict[str, str]) -> None:
        self._base_env = base_env
        self._home_fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        null_fd = os.open(os.devnull, os.O_RDONLY)
        self._outputs = [(os.POSIX_SPAWN_DUP2, stdout_fd, 1), (os.POSIX_SPAWN_DUP2, stderr_fd, 2)]
        self._without_input = [(os.POSIX_SPAWN_DUP2, null_fd, 0), *self._outputs]

    def spawn(self, argv: list[str], env: dict[str, str], *, cwd: str | None, stdin: bytes | None) -> int:
        """Start a program in a session of its own; return its pid.

        ``cwd`` defaults to where the worker was started. The caller sees to ``stdin`` being small:
        it is held in memory until the program has ended.

        Raises:
            LaunchFailed: It can't be started.
        """
        env = {**self._base_env, **env}
        if cwd is None and stdin is None:
            return self._start(argv, env, self._without_input)
        if cwd is not None:
            _enter(cwd)
        input_fd = None
        try:
            if stdin is None:
                return self._start(argv, env, self._without_input)
            input_fd = _as_file(stdin)
            return self._start(argv, env, [(os.POSIX_SPAWN_DUP2, input_fd, 0), *self._outputs])
        finally:
            if input_fd is not None:
                os.close(input_fd)
            if cwd is not None:
                os.fchdir(self._home_fd)

    def _start(self, argv: list[str], env: dict[str, str], file_actions: list[tuple[int, int, int]]) -> int:
        try:
            path = argv[0] if "/" in argv[0] else _find_program(argv[0], env.get("PATH") or DEFAULT_PATH)
            return os.posix_spawn(
                path, argv, env, file_actions=file_actions, setsid=True, setsigmask=(), setsigdef=IGNORED_SIGNALS
            )
        except (OSError, ValueError) as error:
            raise LaunchFailed(_explain(argv[0], error)) from error


def _find_program(name: str, search_path: str) -> str:
    for folder in search_path.split(":"):
        path = f"{folder or '.'}/{name}"
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    raise LaunchFailed(f"{name}: no such program in PATH ({search_path})")


def _enter(cwd: str) -> None:
    try:
        os.chdir(cwd)
    except (OSError, ValueError) as error:
        raise LaunchFailed(f"can't enter the working directory {cwd}: {_reason(error)}") from error


def _as_file(data: bytes) -> int:
    """A file in memory that holds ``data``, at its beginning."""
    fd = os.memfd_create("stdin")
    try:
        os.writev(fd, [data])
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError as error:
        os.close(fd)
        raise LaunchFailed(f"can't hold the input of {len(data)} bytes: {_reason(error)}") from error
    return fd


def _explain(program: str, error: OSError | ValueError) -> str:
    """Say what the person can do, where the kernel's words leave that open."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOENT:
        if os.path.exists(program):
            return f"{program}: the interpreter that its first line (or its ELF header) names does not exist"
        return f"{program}: no such program on this worker"
    if number == errno.EACCES:
        return f"{program}: is not executable (or is a directory)"
    if number == errno.ENOEXEC:
        return f"{program}: is not a program for this machine; a script needs a first line such as #!/bin/sh"
    if number == errno.E2BIG:
        return f"{program}: arguments and environment are larger than this system takes; put them in a file"
    return f"{program}: can't be started: {_reason(error)}"


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)

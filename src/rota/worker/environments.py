"""Virtual environments for tasks that ask for ``requirements``: each built once for all tasks and workers of a machine.

An environment is named by the digest of what it is made of: the requirements, the platform, the Python and the version
of cloudpickle that read its functions. What the worker itself has installed can be imported in it, behind what was
asked for.

```
<environments>/<digest>/         the environment; ``ready`` in it once it is whole, touched at each use
<environments>/<digest>.lock     held alone while it is built or removed, together by the workers that use it
<environments>/<digest>.log      what its building said
```
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree, which
from typing import IO, Final

import structlog

from rota.core.model import Cause
from rota.process.threads import in_thread
from rota.worker.cache import CacheDir, CacheLock
from rota.worker.executors.process import base_environment
from rota.worker.slots.base import SuppliesFailed

__all__ = ["EnvironmentStore", "installer_environment", "name_of_environment", "remove_unused"]

BUILD_S_MAX: Final = 1800.0
"""Some packages are compiled."""

BUILDS_MAX: Final = 2
"""At once: a build is mostly waiting for a network, but not only."""

POLL_S: Final = 0.1
"""Between two looks whether a build has ended."""

UNUSED_S_MAX: Final = 30 * 86400.0
KEPT_MAX: Final = 20
"""Environments that stay when a worker looks for some to remove: those used last."""

LOG_TAIL_LINES: Final = 12
LOG_TAIL_CHARACTERS: Final = 2000
"""Of what a failed build said, for its tasks."""

READY: Final = "ready"

INSTALLER_PREFIXES: Final = ("PIP_", "UV_")
INSTALLER_NAMES: Final = frozenset(
    {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"}
)
"""Of the worker's environment, what says where packages come from. Tasks don't get it: it may hold passwords."""

log = structlog.get_logger(__name__)


class EnvironmentStore:
    """Builds environments when they are asked for, and keeps others from removing those that are used.

    Args:
        cache: Has the folder for them.
    """

    def __init__(self, cache: CacheDir) -> None:
        self._cache = cache
        self._builds = asyncio.Semaphore(BUILDS_MAX)
        self._used: dict[str, CacheLock] = {}
        self._is_closing = threading.Event()
        self._has_cleaned = False

    async def interpreter(self, requirements: Sequence[str]) -> str:
        async with self._builds:
            try:
                return await in_thread(lambda: self._provide(requirements), name="environment-build")
            except OSError as error:
                raise SuppliesFailed(f"no environment can be made here: {error}", cause=Cause.AGENT_ERROR) from error

    def close(self) -> None:
        """Stop what is being built, and let others remove what was used."""
        self._is_closing.set()
        for lock in self._used.values():
            lock.release()
        self._used.clear()

    def _provide(self, requirements: Sequence[str]) -> str:
        folder = self._cache.folder("environments")
        name = name_of_environment(requirements)
        path = folder / name
        if (held := self._used.pop(name, None)) is not None:
            held.release()
        while True:
            with self._share(folder, name) as lock:
                if (path / READY).exists():
                    os.utime(path / READY)
                    self._used[name] = lock.kept()
                    break
            # Only tried: whoever has it is building, or has built already and keeps it for as long as it uses it.
            builder = CacheLock.take(folder / f"{name}.lock", alone=True)
            if builder is None:
                self._pause()
                continue
            with builder:
                if not (path / READY).exists():  # else another worker has built it meanwhile
                    self._build(path, requirements, builder)
        if not self._has_cleaned:
            self._has_cleaned = True
            remove_unused(folder)
        return str(path / "bin" / "python")

    def _share(self, folder: Path, name: str) -> CacheLock:
        """Take the lock of an environment with others, however long another worker builds it."""
        while (lock := CacheLock.take(folder / f"{name}.lock", alone=False)) is None:
            self._pause()
        return lock

    def _pause(self) -> None:
        if self._is_closing.wait(POLL_S):
            raise _leaving()

    def _build(self, path: Path, requirements: Sequence[str], lock: CacheLock) -> None:
        log.info("environment_building", requirements=list(requirements), path=str(path))
        began = time.monotonic()
        rmtree(path, ignore_errors=True)  # what a build left that was interrupted
        log_path = path.with_suffix(".log")
        try:
            with open(log_path, "wb") as output:
                python = str(path / "bin" / "python")
                self._run([sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", path], output, lock)
                _let_see_ours(path)
                self._run([*_installer(python), "--", *requirements], output, lock)
                self._run([python, "-c", "import cloudpickle"], output, lock)
        except _BuildFailed as failed:
            rmtree(path, ignore_errors=True)
            message = f"the environment for {', '.join(requirements)} could not be built: {failed}\n{_tail(log_path)}"
            raise SuppliesFailed(message, cause=Cause.LAUNCH_ERROR) from failed
        (path / READY).write_text(json.dumps(sorted(requirements)))
        log.info("environment_built", path=str(path), seconds=round(time.monotonic() - began, 1))

    def _run(self, command: Sequence[str | Path], output: IO[bytes], lock: CacheLock) -> None:
        """Run one step of a build. It holds the lock, too: if we are killed, nobody builds while it goes on.

        Raises:
            _BuildFailed: It failed, or took too long.
        """
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=installer_environment(os.environ),
            pass_fds=[lock.fd],
            start_new_session=True,
        ) as process:
            ends_at = time.monotonic() + BUILD_S_MAX
            while process.poll() is None and time.monotonic() < ends_at and not self._is_closing.is_set():
                with suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_S)
            code = process.poll()
            with suppress(ProcessLookupError):  # with all that it started
                os.killpg(process.pid, signal.SIGKILL)
        if self._is_closing.is_set():
            raise _leaving()
        if code is None:
            raise _BuildFailed(f"not done after {BUILD_S_MAX:g} s")
        if code != 0:
            raise _BuildFailed(f"{Path(command[0]).name} {command[1]} {command[2]} ended with code {code}")


class _BuildFailed(Exception):
    """A step of a build did not succeed."""


def name_of_environment(requirements: Sequence[str]) -> str:
    """The digest of all that makes an environment what it is."""
    # The platform: machines of several kinds may share a home.
    parts = [sorted(requirements), sys.version, sysconfig.get_platform(), sys.prefix, version("cloudpickle")]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def installer_environment(own: Mapping[str, str]) -> dict[str, str]:
    """What an installer is given of the worker's environment.

    >>> installer_environment({"PATH": "/bin", "PIP_INDEX_URL": "u", "https_proxy": "p", "ROTA_TOKEN": "x"})
    {'PATH': '/bin', 'PIP_INDEX_URL': 'u', 'https_proxy': 'p'}
    """
    said = {
        name: value
        for name, value in own.items()
        if name.startswith(INSTALLER_PREFIXES) or name.upper() in INSTALLER_NAMES
    }
    return {**base_environment(own), **said}


def remove_unused(folder: Path) -> list[str]:
    """Remove environments that were not used for long, or are too many; return their names."""
    removed: list[str] = []
    long_ago = time.time() - UNUSED_S_MAX
    for index, (used_at, name) in enumerate(sorted(_listed(folder), reverse=True)):
        if index < KEPT_MAX and used_at > long_ago:
            continue
        lock = CacheLock.take(folder / f"{name}.lock", alone=True)
        if lock is None:  # another worker uses it
            continue
        with lock:
            rmtree(folder / name, ignore_errors=True)
            for suffix in (".log", ".lock"):
                (folder / f"{name}{suffix}").unlink(missing_ok=True)
        log.info("environment_removed", name=name)
        removed.append(name)
    return removed


def _listed(folder: Path) -> list[tuple[float, str]]:
    """When each environment was used last, and its name."""
    found: list[tuple[float, str]] = []
    for path in folder.iterdir():
        if path.is_dir():
            with suppress(OSError):  # removed meanwhile
                used = path / READY if (path / READY).exists() else path
                found.append((used.stat().st_mtime, path.name))
    return found


def _let_see_ours(path: Path) -> None:
    """Put the packages of this interpreter, which may live in an environment itself, behind those of the new one."""
    ours = [entry for entry in sys.path if Path(entry).name in {"site-packages", "dist-packages"}]
    (packages,) = path.glob("lib/python*/site-packages")
    lines = "".join(f"import site; site.addsitedir({entry!r})\n" for entry in ours)
    (packages / "zz_rota_worker.pth").write_text(lines)


def _installer(python: str) -> list[str]:
    """The command that installs into the environment of ``python``.

    Raises:
        _BuildFailed: There is none.
    """
    if find_spec("pip") is not None:
        options = ["--disable-pip-version-check", "--no-input", "--no-warn-script-location", "--quiet"]
        return [sys.executable, "-m", "pip", "--python", python, "install", *options]
    if (uv := which("uv")) is not None:
        return [uv, "pip", "install", "--python", python, "--quiet"]
    raise _BuildFailed("this worker has neither pip nor uv")


def _tail(path: Path) -> str:
    """The last lines of a log."""
    text = path.read_bytes().decode(errors="replace")
    return "\n".join(text.splitlines()[-LOG_TAIL_LINES:])[-LOG_TAIL_CHARACTERS:]


def _leaving() -> SuppliesFailed:
    return SuppliesFailed("the worker is leaving", cause=Cause.RETURNED)

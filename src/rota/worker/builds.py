"""Programs built of Go snippets: each built once for equal code, kept as files within a limit, the latest used longest.

```
<cache>/go-1/programs/ab/ab12…   a program, by the digest of all that makes it what it is
<cache>/go-1/work/               builds that go on; emptied when the folder is taken
<cache>/go-build/                what the compiler keeps, for all workers of the machine
<cache>/go-build.lock            held together by builds, alone by whoever removes from it
```

A program becomes one by a rename, so none is ever half there.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import resource
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from rota.core.model import Cause
from rota.process.threads import in_thread
from rota.worker.blobs import BlobFolder
from rota.worker.cache import CacheDir, CacheLock
from rota.worker.slots.base import Build, SuppliesFailed
from rota.worker.slots.scratch import remove_tree
from rota.worker.slots.tree import descendants, resident_kib
from rota.worker.toolchain import GoToolchain, go_environment

__all__ = ["GoBuilds", "compiler_message", "trim"]

SOURCE: Final = "main.go"
PROGRAM: Final = "program"

FLAGS: Final = ("-trimpath", "-p=2", "-buildmode=exe", "-ldflags=-s -w")
"""No paths of this machine in the program, two compilers at once, and no tables for debuggers: a third less to keep."""

PROGRAM_BYTES_MAX: Final = 512 << 20
"""Of all programs: some 300, of 1.2 MiB and more each."""

COMPILER_BYTES_MAX: Final = 1 << 30
"""Of what the compiler keeps: the whole standard library is about a fifth of it."""

COMPILER_LOOK_S: Final = 60.0
"""Between two looks at how much that is."""

BUILDS_MAX: Final = 2
"""At once."""

BUILD_S_MAX: Final = 300.0
"""The first build on a machine compiles the standard library, too."""

BUILD_MIB_MAX: Final = 2048
SOFT_MIB: Final = 512
"""What a build may have in memory, and what each compiler is told to stay under if it can."""

POLL_S: Final = 0.05
"""Between two looks at a build."""

WANTED_S: Final = 0.5
"""Between two looks whether somebody still waits for it."""

FULL_DISK: Final = "no space left on device"

KEPT_SHARE: Final = 0.75
"""Of the limit of what the compiler keeps, when something is removed: not with each build anew."""

SAID_BYTES_MAX: Final = 16384
SAID_LINES_MAX: Final = 20
SAID_CHARS_MAX: Final = 2000
"""Of what the compiler says: it stops at ten mistakes itself."""

_WHOLE: Final = "a Go snippet is a whole program: it begins with `package main` and has a `func main()`"

HINTS: Final[Mapping[str, str]] = {
    "expected 'package'": _WHOLE,
    "requires exactly one main package": _WHOLE,
    "function main is undeclared": _WHOLE,
    "no required module provides package": "a Go snippet can import the standard library only",
    "no Go source files": 'a Go snippet is built without C: it can\'t import "C"',
}
"""What to do, by words of the compiler's."""

log = structlog.get_logger(__name__)


class GoBuilds:
    """Builds programs with one toolchain.

    Args:
        cache: Has the folders.
        toolchain: Builds them.
    """

    source: Final = SOURCE

    def __init__(self, cache: CacheDir, toolchain: GoToolchain) -> None:
        self._cache = cache
        self._toolchain = toolchain
        self._folder: Path | None = None
        self._programs: BlobFolder | None = None
        self._builds = asyncio.Semaphore(BUILDS_MAX)
        self._in_use: Callable[[], AbstractSet[str]] = frozenset
        self._compiler = _CompilerCache(cache)

    def protect(self, in_use: Callable[[], AbstractSet[str]]) -> None:
        """Ask this what must not be removed, before something is."""
        self._in_use = in_use

    def build_of(self, code: str) -> Build:
        parts = [code, self._toolchain.version, self._toolchain.platform, FLAGS]
        return Build(hashlib.sha256(json.dumps(parts).encode()).hexdigest(), code)

    def find(self, name: str) -> str | None:
        try:
            found = self._take_folder().find(name)
        except OSError:  # building it will say what is wrong
            return None
        return None if found is None else str(found)

    async def build(self, build: Build, *, is_wanted: Callable[[], bool]) -> None:
        async with self._builds:
            if not is_wanted():
                raise _unwanted()
            stop = threading.Event()
            building = asyncio.create_task(self._run(build, stop))
            try:
                while not (await asyncio.wait({building}, timeout=WANTED_S))[0]:
                    if not is_wanted():
                        stop.set()
            except asyncio.CancelledError:
                stop.set()
                await asyncio.wait({building})  # so that the compiler does not outlive us
                raise
            await building

    async def _run(self, build: Build, stop: threading.Event) -> None:
        try:
            programs = self._take_folder()
            assert self._folder is not None
            work, target = self._folder / "work" / secrets.token_hex(8), programs.new_file()
            await in_thread(lambda: self._compile(build, work, target, stop=stop), name="go-build")
            programs.adopt(target, build.name)
            programs.make_room({*self._in_use(), build.name})
        except OSError as error:
            raise SuppliesFailed(f"no Go program can be built here: {error}", cause=Cause.AGENT_ERROR) from error

    def _take_folder(self) -> BlobFolder:
        if self._folder is None or self._programs is None or not self._folder.is_dir():  # somebody may have removed it
            folder = self._cache.take_own_folder("go")
            remove_tree(str(folder / "work"))
            for name in ("work", "programs"):
                (folder / name).mkdir(mode=0o700, exist_ok=True)
            self._folder, self._programs = folder, BlobFolder(folder / "programs", bytes_max=PROGRAM_BYTES_MAX)
        return self._programs

    # In a thread

    def _compile(self, build: Build, work: Path, target: Path, *, stop: threading.Event) -> None:
        """Build a program in a directory of its own, and move it to its target."""
        work.mkdir(mode=0o700)
        try:
            (work / SOURCE).write_bytes(build.code.encode())
            (work / "go.mod").write_text(f"module snippet\n\ngo {self._toolchain.language}\n")
            began = time.monotonic()
            with self._compiler.shared(stop) as lock:
                self._run_compiler(work, lock, stop=stop)
            (work / PROGRAM).chmod(0o700)
            (work / PROGRAM).rename(target)
            log.info("go_built", name=build.name, seconds=round(time.monotonic() - began, 1))
        finally:
            if (problem := remove_tree(str(work))) is not None:
                log.warning("go_build_left", path=str(work), problem=problem)
        self._compiler.trim_sometimes()

    def _run_compiler(self, work: Path, lock: CacheLock, *, stop: threading.Event) -> None:
        """Run the compiler, within limits. It holds the lock, too: if we are killed, nobody takes its files away."""
        environment = go_environment(os.environ, cache=str(self._compiler.path), work=str(work))
        with (
            open(work / "said", "w+b") as output,
            subprocess.Popen(
                [self._toolchain.path, "build", *FLAGS, "-o", PROGRAM, SOURCE],
                cwd=work,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environment, "GOMEMLIMIT": f"{SOFT_MIB}MiB"},
                pass_fds=[lock.fd],
                start_new_session=True,
            ) as process,
        ):
            problem = _watch(process, stop)
            code = process.poll()
            with suppress(ProcessLookupError):  # with all that it started
                os.killpg(process.pid, signal.SIGKILL)
            output.seek(0)
            said = output.read(SAID_BYTES_MAX).decode("utf-8", "replace")
        if stop.is_set():
            raise _unwanted()
        if code is None or code < 0:
            reason = problem or f"the compiler was killed by signal {-(code or 0)}"
            raise SuppliesFailed(f"the code could not be compiled: {reason}", cause=Cause.LAUNCH_ERROR)
        if code != 0:
            is_full = FULL_DISK in said
            raise SuppliesFailed(compiler_message(said), cause=Cause.AGENT_ERROR if is_full else Cause.LAUNCH_ERROR)


class _CompilerCache:
    """What the compiler keeps, of all workers with this cache directory."""

    def __init__(self, cache: CacheDir) -> None:
        self._cache = cache
        self._looked_at = -math.inf

    @property
    def path(self) -> Path:
        """The folder.

        Raises:
            OSError: It can't be made.
        """
        return self._cache.folder("go-build")

    def shared(self, stop: threading.Event) -> CacheLock:
        """Use it with others, however long somebody removes from it."""
        while True:
            lock = CacheLock.take(self._cache.path / "go-build.lock", alone=False)
            if lock is not None:
                return lock
            if stop.wait(POLL_S):
                raise _unwanted()

    def trim_sometimes(self) -> None:
        """Keep it within its limit, unless somebody builds."""
        now = time.monotonic()
        if now < self._looked_at + COMPILER_LOOK_S:
            return
        lock = CacheLock.take(self._cache.path / "go-build.lock", alone=True)
        if lock is not None:
            self._looked_at = now
            with lock, suppress(OSError):  # somebody else may remove files, too; the program is built all the same
                trim(self.path, COMPILER_BYTES_MAX)


def trim(folder: Path, bytes_max: int) -> int:
    """Remove what was not used for longest until a quarter of the limit is free; return how many bytes went.

    The compiler itself notes uses by the times of its files, and does without what it doesn't find.
    """
    found = []
    for path in folder.glob("??/*"):
        status = path.stat()
        found.append((status.st_mtime, status.st_size, path))
    total = left = sum(size for _, size, _ in found)
    if total <= bytes_max:
        return 0
    for _, size, path in sorted(found):
        if left <= bytes_max * KEPT_SHARE:
            break
        path.unlink()
        left -= size
    log.info("go_cache_trimmed", bytes=total - left)
    return total - left


def compiler_message(said: str) -> str:
    r"""What the compiler says of the code, with what to do where that is not plain.

    >>> compiler_message("# command-line-arguments\n./main.go:5:2: undefined: x\n")
    'main.go:5:2: undefined: x'
    """
    lines = [line.removeprefix("./") for line in said.splitlines() if not line.startswith(("#", "\tgo get "))]
    shown = "\n".join(lines[:SAID_LINES_MAX])[:SAID_CHARS_MAX] or "the compiler failed without a word"
    hint = next((hint for words, hint in HINTS.items() if words in said), None)
    return f"{shown}\n{hint}" if hint is not None else shown


def _unwanted() -> SuppliesFailed:
    return SuppliesFailed("its program is not built any more: nobody waited for it", cause=Cause.RETURNED)


def _watch(process: subprocess.Popen[bytes], stop: threading.Event) -> str | None:
    """Wait until a build has ended or must be ended; say why it must, if so."""
    cpu_s = math.ceil(BUILD_S_MAX * (os.cpu_count() or 1))  # also should nobody be left to watch it
    for limit, most in ((resource.RLIMIT_CPU, cpu_s), (resource.RLIMIT_FSIZE, PROGRAM_BYTES_MAX)):
        with suppress(ProcessLookupError):
            resource.prlimit(process.pid, limit, (most, most))
    ends_at = time.monotonic() + BUILD_S_MAX
    while not stop.is_set():
        with suppress(subprocess.TimeoutExpired):
            process.wait(POLL_S)
            return None
        if time.monotonic() >= ends_at:
            return f"that was not done after {BUILD_S_MAX:g} s"
        used_kib = sum(map(resident_kib, (process.pid, *descendants(process.pid))))
        if used_kib > BUILD_MIB_MAX << 10:
            return f"the compiler took more than {BUILD_MIB_MAX:,} MiB of memory"
    return None

"""The program that does synthetic work: ``synthetic.py MIX SECONDS MIB``.

Prints one line of JSON that says what it did. Imports next to nothing, so that a start takes some ten milliseconds.
The scratch file never has a name, or loses it at once: however this process ends, nothing is left of it.
"""

import mmap
import os
import sys
import time

__all__ = ["main"]

MIB = 1 << 20

PAGE_BYTES = mmap.PAGESIZE

ROUNDS = 20_000
"""Of the busy loop between two looks at the clock: less than a millisecond."""


def main(mix: str, seconds: float, mib: int) -> int:
    """Do the work and say so.

    Args:
        mix: ``cpu``, ``io``, ``memory``, or ``mixed`` for a third of the time each.
        seconds: Of processor time for ``cpu``, else of the clock, from the start of that part.
        mib: What is written and read back in each round of ``io``, and held by ``memory``; 0 for nothing.

    Returns:
        The exit code: 1 if the machine did not let it, which is said on stderr.
    """
    parts = ("cpu", "io", "memory") if mix == "mixed" else (mix,)
    began, done = time.monotonic(), {"mib_written": 0, "mib_read": 0, "mib_held": 0}
    for part in parts:
        try:
            _DO[part](seconds / len(parts), mib, done)
        except (OSError, MemoryError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or "out of memory"
            where = f" in {_folder()}, after {done['mib_written']} MiB were written" if part == "io" else ""
            sys.stderr.write(f"{part} of {mib} MiB failed{where}: {reason}\n")
            return 1
    facts = {**done, "cpu_seconds": round(time.process_time(), 6), "seconds": round(time.monotonic() - began, 6)}
    # By hand, since importing `json` would take a third of the start. The mix is a known word, the rest are numbers.
    numbers = ", ".join(f'"{name}": {number}' for name, number in facts.items())
    sys.stdout.write(f'{{"mix": "{mix}", {numbers}}}\n')
    return 0


def keep_busy(seconds: float, mib: int, done: dict[str, int]) -> None:
    """Keep a core busy until this process has used so much processor time, its start included."""
    del mib, done
    while time.process_time() < seconds:
        for _ in range(ROUNDS):
            pass


def write_and_read(seconds: float, mib: int, done: dict[str, int]) -> None:
    """Write a file, sync it and read it back, once and again until the time is over; without a size, only wait.

    Raises:
        OSError: The disk is full, or fails, or gives back something else.
    """
    until = time.monotonic() + seconds
    if not mib:
        time.sleep(seconds)
        return
    block = os.urandom(MIB)  # what no file system can make smaller
    file = _scratch_file(_folder())
    try:
        while True:
            for number in range(mib):
                _write_at(file, block, number * MIB)
                done["mib_written"] += 1
            os.fsync(file)
            # Else it would be read from memory. A hint: not every file system has a use for it.
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            for number in range(mib):
                if _read_at(file, number * MIB) != block:
                    raise OSError(0, "what was read back is not what was written")
                done["mib_read"] += 1
            if time.monotonic() >= until:
                return
    finally:
        os.close(file)


def hold_memory(seconds: float, mib: int, done: dict[str, int]) -> None:
    """Touch memory page by page, and hold it until the time is over.

    Raises:
        OSError: The kernel does not give so much.
    """
    until = time.monotonic() + seconds
    if mib:
        memory = mmap.mmap(-1, mib * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for at in range(0, mib * MIB, PAGE_BYTES):
            memory[at] = 1
        done["mib_held"] = mib
    time.sleep(max(0.0, until - time.monotonic()))


_DO = {"cpu": keep_busy, "io": write_and_read, "memory": hold_memory}


def _folder() -> str:
    """Where temporary files of this task belong."""
    return os.environ.get("TMPDIR") or "/tmp"


def _scratch_file(folder: str) -> int:
    """Open a file without a name."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:  # some file systems and old kernels have none; a folder that is not there fails again below
        path = f"{folder}/rota-workload-{os.getpid()}-{time.monotonic_ns()}"
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        os.unlink(path)
        return file


def _write_at(file: int, block: bytes, at: int) -> None:
    view = memoryview(block)
    while view:
        count = os.pwrite(file, view, at)
        view, at = view[count:], at + count


def _read_at(file: int, at: int) -> bytes:
    parts = b""
    while len(parts) < MIB and (part := os.pread(file, MIB - len(parts), at + len(parts))):
        parts += part
    return parts


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))

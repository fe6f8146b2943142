"""A scratch directory: made for one attempt, and gone with it, whatever the attempt has put there.

It is private to the worker's user, and its path is the agent's to say. It is removed once nothing of the attempt runs
any more. If no slot is left to do that, the agent does it (`rota.worker.scratch`), with the same `remove_tree`.

Removing walks no paths and follows no links. Each directory that is found is first moved up, beside the scratch
directory, and emptied there: so neither depth nor the length of names matters, two descriptors are enough, and a
mount point, which can't be moved, is never entered.
"""

import errno
import os

from rota.worker.slots.frames import FreightOrder, ScratchOrder
from rota.worker.slots.inputs import InputsFailed, place_inputs
from rota.worker.slots.last_words import last_words
from rota.worker.slots.output import OutputStream
from rota.worker.slots.spawn import LaunchFailed

__all__ = ["Scratch", "ScratchFailed", "remove_tree"]

PRIVATE = 0o700

FILE_MODE = 0o600

ROUNDS_MAX = 100
"""Through one directory, where somebody else still writes to it."""

OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ScratchFailed(LaunchFailed):
    """This machine could not give the attempt its directory: not the task's fault."""

    cause = "agent-error"


class Scratch:
    """The scratch directory of one attempt."""

    __slots__ = ("_files", "_freight", "_language", "_path", "_source")

    def __init__(self, order: ScratchOrder, freight: FreightOrder | None = None) -> None:
        self._path, self._files, self._language, self._source = order
        self._freight = freight

    def prepare(self) -> None:
        """Make it, with the files that belong there, before the attempt starts.

        Raises:
            ScratchFailed: It can't be made; nothing is left of it.
        """
        try:
            try:
                os.mkdir(self._path, PRIVATE)
            except FileExistsError:  # of an attempt of the same number, in another cluster
                remove_tree(self._path)
                os.mkdir(self._path, PRIVATE)
            for name, data in self._files:
                _write(f"{self._path}/{name}", data)
            if self._freight is not None:
                place_inputs(self._freight[0], self._path)
        except InputsFailed as error:
            self.remove()
            raise ScratchFailed(f"its scratch directory is not complete: {error}") from error
        except OSError as error:
            self.remove()
            reason = f"no scratch directory could be made on this worker: {error.strerror} ({self._path})"
            raise ScratchFailed(reason) from error

    def last_words(self, status: int | None, stderr: OutputStream) -> str | None:
        """Why a snippet failed, in a line, if it was a snippet and has said so."""
        if not self._language or status is None or not os.WIFEXITED(status) or not os.WEXITSTATUS(status):
            return None
        return last_words(self._language, self._source, os.WEXITSTATUS(status), stderr=stderr.ending())

    def harvested(self, ended: tuple[object, ...], *, is_over: bool) -> tuple[object, ...]:
        """Keep what the task wants back, and add that to its end.

        Only if nothing of the attempt runs any more (``is_over``): what still writes could lead us anywhere.
        """
        if self._freight is None or not self._freight[1]:
            return ended
        if not is_over:
            return (*ended[:2], ended[2] or "agent-error", *ended[3:14], f"{ended[14]}; its outputs were not kept")
        from rota.worker.slots.harvest import harvested  # noqa: PLC0415 - memory that few slots need

        return harvested(ended, self._path, self._freight, own=self._files)

    def remove(self) -> None:
        """Remove it, once nothing of the attempt runs any more. What can't be removed is left to the agent."""
        remove_tree(self._path)


def remove_tree(path: str) -> str | None:
    """Remove a directory with all that is in it.

    Args:
        path: Absolute. Beside it, its name with a dot and a number behind it must be free to use.

    Returns:
        Why something is left, or ``None`` if nothing is. What is left lies beside ``path``, by such names.
    """
    yard, _, name = path.rpartition("/")
    try:
        yard_fd = os.open(yard or "/", OPEN_DIRECTORY)
    except OSError as error:
        return None if error.errno == errno.ENOENT else f"{yard}: {error.strerror}"
    try:
        return _Removal(yard_fd, name).run()
    finally:
        os.close(yard_fd)


class _Removal:
    """One removal: directories of the names ``stem.0``, ``stem.1`` and so on, each emptied into the yard."""

    def __init__(self, yard_fd: int, stem: str) -> None:
        self._yard_fd = yard_fd
        self._stem = stem
        self._moved = 0
        self._problem: str | None = None

    def run(self) -> str | None:
        try:
            self._move_up(self._stem, self._yard_fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._note(self._stem, error)
        done = 0
        while done < self._moved:
            self._remove(f"{self._stem}.{done}")
            done += 1
        return self._problem

    def _remove(self, name: str) -> None:
        """Remove one directory of the yard; what it has in it of directories is moved beside it."""
        try:
            fd = self._open(name)
        except OSError as error:
            self._note(name, error)
            return
        try:
            # Again, because a directory that changes while it is listed may hide names.
            for _ in range(ROUNDS_MAX):
                if not self._empty(fd) or self._is_gone(name):
                    return
            self._note(name, OSError(errno.ENOTEMPTY, "somebody still writes to it"))
        finally:
            os.close(fd)

    def _is_gone(self, name: str) -> bool:
        """Remove a directory that should be empty; say whether there is nothing more to do."""
        try:
            os.rmdir(name, dir_fd=self._yard_fd)
        except OSError as error:
            if error.errno == errno.ENOTEMPTY:
                return False
            self._note(name, error)
        return True

    def _open(self, name: str) -> int:
        try:
            fd = os.open(name, OPEN_DIRECTORY, dir_fd=self._yard_fd)
        except PermissionError:
            _let_in(name, self._yard_fd)
            fd = os.open(name, OPEN_DIRECTORY, dir_fd=self._yard_fd)
        try:
            os.fchmod(fd, PRIVATE)  # it may have been made read-only
        except OSError:
            return fd  # another user's: perhaps we may all the same
        return fd

    def _empty(self, fd: int) -> bool:
        """Take all names out of a directory; say whether none stayed for a reason that was noted."""
        is_clean = True
        with os.scandir(fd) as entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        self._take_out(entry.name, fd)
                    else:
                        os.unlink(entry.name, dir_fd=fd)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self._note(entry.name, error)
                    is_clean = False
        return is_clean

    def _take_out(self, name: str, fd: int) -> None:
        try:
            os.rmdir(name, dir_fd=fd)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            self._move_up(name, fd)

    def _move_up(self, name: str, fd: int) -> None:
        target = f"{self._stem}.{self._moved}"
        try:
            os.rename(name, target, src_dir_fd=fd, dst_dir_fd=self._yard_fd)
        except PermissionError:  # a directory that moves is written to: its ``..`` changes
            _let_in(name, fd)
            os.rename(name, target, src_dir_fd=fd, dst_dir_fd=self._yard_fd)
        self._moved += 1

    def _note(self, name: str, error: OSError) -> None:
        if self._problem is None:
            self._problem = f"{name}: {error.strerror}"


def _let_in(name: str, dir_fd: int) -> None:
    """Give ourselves all rights on a directory, and never on what a link in its place points to."""
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        os.chmod(f"/proc/self/fd/{fd}", PRIVATE)
    finally:
        os.close(fd)


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)

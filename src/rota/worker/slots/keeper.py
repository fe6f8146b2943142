"""The keeper: a small warm process, one for each agent, from which slots are forked.

Forking the agent would copy its page tables and could copy its locks; starting an interpreter takes
tens of milliseconds. The keeper has everything loaded that a slot needs, so a slot is one
fork, about a millisecond, and shares nearly all of its memory.

It is the subreaper above the slots: if a slot is killed, what ran under it becomes the keeper's,
which kills it before it tells the agent. If the agent goes, its socket ends; the slots see
the same and leave, and so does the keeper once nothing is left.

It holds a descriptor for each slot, so it may open as many files as the agent; its slots set the limit back.

Run as ``python -I -S -c "import rota.worker.slots.keeper …"`` by ``rota.worker.slots.control``. That of slots of
functions is ``rota.worker.slots.functions.keeper``.
"""

import array
import gc
import os
import select
import sys
import time
from _collections_abc import Callable
from _socket import MSG_CMSG_CLOEXEC, SCM_RIGHTS, SOL_SOCKET, socket

from rota.worker.slots.frames import decode, encode
from rota.worker.slots.linux import SIGKILL, become_subreaper, ignore_signals, name_process
from rota.worker.slots.slot import run_slot
from rota.worker.slots.tree import Reaped, kill_tree

__all__ = ["Keeper", "main"]

EMPTY_WITHIN_S = 5.0
"""For killing what a dead slot left behind."""

LEAVE_WITHIN_S = 10.0
"""For slots to kill their trees after the agent is gone, before the keeper does."""

PACKET_BYTES_MAX = 4096

ANCILLARY_BYTES_MAX = 64
"""Room for one descriptor and its header."""


class Keeper:
    """Forks slots on request and tells the agent when one is gone, with all below it."""

    def __init__(self, control: socket) -> None:
        self._control = control
        self._slots: dict[int, tuple[int, int]] = {}  # pidfd → (slot number, pid)
        self._poll = select.poll()
        self._poll.register(control.fileno(), select.POLLIN)

    def serve(self) -> socket | None:
        """Serve until the agent is gone. In a new slot, return its socket."""
        while True:
            for fd, _ in self._poll.poll():
                if fd != self._control.fileno():
                    self._bury(fd)
                    continue
                request = self._receive()
                if request is None:
                    self._leave()
                    return None
                number, connection = request
                if connection is None:
                    self._tell(("refused", number, "no slot could be made: too many files are open"))
                elif self._fork(number, connection):
                    return connection

    def _receive(self) -> tuple[int, socket | None] | None:
        """The next request, or nothing if the agent is gone. One without a socket found no room for it here."""
        try:
            # Closed on exec from the first moment: a task that had this socket could speak for its slot.
            packet, ancillary, _, _ = self._control.recvmsg(PACKET_BYTES_MAX, ANCILLARY_BYTES_MAX, MSG_CMSG_CLOEXEC)
        except OSError:
            packet, ancillary = b"", []
        if not packet:
            return None
        (number,) = decode(packet)
        assert isinstance(number, int)
        fds = array.array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
                fds.frombytes(data)
        return number, socket(fileno=fds[0]) if fds else None

    def _fork(self, number: int, connection: socket) -> bool:
        """Make a slot; return whether this process is it."""
        try:
            pid = os.fork()
        except OSError as error:
            connection.close()
            self._tell(("refused", number, f"no process for a slot could be made: {error.strerror}"))
            return False
        if pid == 0:
            # What belongs to the keeper must end with the keeper, not with its slots.
            self._control.close()
            for fd in self._slots:
                os.close(fd)
            return True
        connection.close()
        try:
            pid_fd = os.pidfd_open(pid)
        except OSError as error:  # a slot whose end nobody would see
            os.kill(pid, SIGKILL)
            os.waitpid(pid, 0)
            self._tell(("refused", number, f"no slot could be watched: {error.strerror}"))
            return False
        self._slots[pid_fd] = number, pid
        self._poll.register(pid_fd, select.POLLIN)
        self._tell(("forked", number, pid))
        return False

    def _bury(self, pid_fd: int) -> None:
        """Remove what a dead slot left, then tell the agent."""
        number, pid = self._slots.pop(pid_fd)
        self._poll.unregister(pid_fd)
        os.close(pid_fd)
        reaped = Reaped(pid)
        reaped.reap()
        is_empty = self._kill_strangers(reaped)
        status = reaped.main_status
        code = None if status is None else os.waitstatus_to_exitcode(status)
        how = "ended" if code is None else f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        self._tell(("gone", number, f"the slot process {how}", is_empty))

    def _kill_strangers(self, reaped: Reaped) -> bool:
        """Kill all that is below this process and below no living slot."""
        return kill_tree(reaped, EMPTY_WITHIN_S, spare=frozenset(pid for _, pid in self._slots.values()))

    def _leave(self) -> None:
        """Wait for the slots to leave, then make sure."""
        self._poll.unregister(self._control.fileno())
        leaves_at = time.monotonic() + LEAVE_WITHIN_S
        while self._slots and (left_s := leaves_at - time.monotonic()) > 0:
            for fd, _ in self._poll.poll(left_s * 1000):
                self._bury(fd)
        kill_tree(Reaped(0), EMPTY_WITHIN_S)

    def _tell(self, message: tuple[object, ...]) -> None:
        try:
            self._control.send(encode(message))
        except OSError:
            return  # the agent is gone: the next poll says so


def main(run: Callable[..., None] = run_slot, *, name: str = "rota-keeper") -> None:
    """Be a keeper for the agent, or one of its slots: the last arguments are slots' limit of files, and our socket.

    Args:
        run: What a slot does: it is called with its socket and the limit, as ``file_limit``.
        name: What ``ps`` shows of the keeper.
    """
    ignore_signals()
    name_process(name)
    become_subreaper()
    # Slots make no cycles of objects; and a collection would write to every page that they share.
    gc.disable()
    gc.freeze()
    control = socket(fileno=int(sys.argv[-1]))
    os.set_inheritable(control.fileno(), False)
    control.send(encode(("ready",)))
    connection = Keeper(control).serve()
    if connection is not None:
        run(connection, file_limit=int(sys.argv[-2]))


if __name__ == "__main__":
    main()

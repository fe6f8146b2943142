"""The private language of agent, keeper and slots: tuples as ``marshal`` bytes behind their length.

``marshal`` is built into the interpreter, so it costs a slot no memory, and both ends are always
the same interpreter, so its format can't differ. Each frame is 4 bytes of length (little endian)
and one marshalled tuple. Nothing a task can reach carries frames: the sockets close on exec.

Agent to slot:

- ``("setup", output limit in bytes, grace_s of time-outs, base environment)``, once, first
- ``("run", [order, …])``: they join the line; for the fields see `Order`
- ``("stop", task, attempt, cause, grace_s)``
- ``("take-back", [(task, attempt), …])``
- ``("grace", seconds)``: of time-outs of what starts from now on
- ``("exit",)``: leave when the line is empty

Slot to agent, always ``(started, ended, output, trouble)``: three lists of tuples in the order of the
fields of ``Started``, ``Ended`` and ``OutputChunk``, and ``None`` or the sentence that says why this slot
must not be used again.

Agent to keeper, one packet each, with the slot's end of its socket attached: ``(slot number,)``.
Keeper to agent: ``("ready",)`` once, ``("forked", slot number, pid)``, ``("refused", slot number, sentence)`` or
``("gone", slot number, sentence, emptied)`` once nothing of what ran under that slot is left
(``emptied`` is false if something could not be removed).
"""

import marshal

__all__ = ["FunctionOrder", "Order", "Unpacker", "decode", "encode", "pack"]

HEADER_BYTES = 4

MARSHAL_VERSION = 2
"""Version 2 keeps no table of seen objects: a third faster, and we have few repeated ones."""

Order = tuple[int, int, list[str], dict[str, str], str | None, bytes | None, float | None, int | None]
"""What to run: (task, attempt, argv, env, cwd, stdin, timeout_s, memory_mib).

``env`` comes on top of the base environment; ``None`` is "not given", or no limit.
"""


def encode(message: tuple[object, ...]) -> bytes:
    """A message without its length, for a socket that keeps packets apart.

    >>> decode(encode(("gone", 3)))
    ('gone', 3)
    """
    return marshal.dumps(message, MARSHAL_VERSION)  # type: ignore[arg-type] # typeshed's type of it can't be named


def decode(packet: bytes | bytearray) -> tuple[object, ...]:
    """What `encode` was given."""
    message: tuple[object, ...] = marshal.loads(packet)
    return message


def pack(message: tuple[object, ...]) -> bytes:
    """One frame.

    >>> len(pack(("exit",)))
    18
    """
    body = encode(message)
    return len(body).to_bytes(HEADER_BYTES, "little") + body


FunctionOrder = tuple[int, int, str, bytes, float | None, int | None, tuple[str, str, str], dict[str, object] | None]
"""Which function to call: (task, attempt, function_path, args, timeout_s, memory_mib, facts, extras).

``function_path`` is a file, named by its digest, that holds the pickled function; ``args`` is an envelope of
``rota.functions.envelope``; ``facts`` are the task's id, its queue and the worker. ``extras`` may have ``env``, variables
to set for this task, ``cwd``, ``blobs``, the local path of each digest that ``args`` refer to, and ``blob_dir``, the
directory for a large result.
"""


class Unpacker:
    """Puts frames together again from the pieces in which they arrive."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[object, ...]]:
        """Return the messages that are complete with ``data``, in order."""
        buffer = self._buffer
        buffer += data
        messages: list[tuple[object, ...]] = []
        position = 0
        while len(buffer) - position >= HEADER_BYTES:
            start = position + HEADER_BYTES
            end = start + int.from_bytes(buffer[position:start], "little")
            if end > len(buffer):
                break
            messages.append(decode(buffer[start:end]))
            position = end
        if position:
            del buffer[:position]
        return messages

"""The private language of agent, keeper and slots: tuples as ``marshal`` bytes behind their length.

``marshal`` is built into the interpreter, so it costs a slot no memory. Slots of functions may run in another Python
than the agent's, so both write versions of its format that are the same in all: 2, and 4 where it pays. Each frame
is 4 bytes of length (little endian) and one marshalled tuple. Nothing a task can reach carries frames: the sockets
close on exec.

Agent to slot:

- ``("setup", output limit in bytes, grace_s of time-outs, base environment)``, once, first
- ``("scratch-limit", MiB)``, to slots of programs, where there is one: of what an attempt has in its scratch directory
- ``("run", [order, …])``: they join the line; for the fields see `Order`
- ``("stop", task, attempt, cause, grace_s)``
- ``("take-back", [(task, attempt), …])``
- ``("grace", seconds)``: of time-outs of what starts from now on
- ``("exit",)``: leave when the line is empty

Slot to agent, always ``(started, ended, output, trouble)``: three lists of tuples in the order of the
fields of ``Started``, ``Ended`` and ``OutputChunk``, and ``None`` or the sentence that says why this slot
must not be used again.

Slots of functions report one list more, the fields of ``Mark``: ``(started, ended, output, trouble, marks)``. Their
orders are `FunctionOrder` s and come as ``("calls", encoded)``, made by `encode_orders`; their reports are put together
from records that are encoded already (`pack_report`): version 2 knows no references back, so an encoded list is its
length and its encoded members, one after another.

Agent to keeper, one packet each, with the slot's end of its socket attached: ``(slot number,)``.
Keeper to agent: ``("ready",)`` once, ``("forked", slot number, pid)``, ``("refused", slot number, sentence)`` or
``("gone", slot number, sentence, emptied)`` once nothing of what ran under that slot is left
(``emptied`` is false if something could not be removed).
"""

import marshal

__all__ = [
    "FreightOrder",
    "FunctionOrder",
    "Order",
    "ScratchOrder",
    "Unpacker",
    "count_of",
    "decode",
    "decode_orders",
    "encode",
    "encode_orders",
    "pack",
    "pack_report",
]

HEADER_BYTES = 4

MARSHAL_VERSION = 2
"""Version 2 keeps no table of seen objects: a third faster, and we have few repeated ones."""

ORDERS_MARSHAL_VERSION = 4
"""With that table: orders are many of a kind, and take 0.3 µs for both ways instead of 0.75."""

_LIST_HEADER_BYTES = 5
"""A letter and the count."""

_REPORT = b"(" + (5).to_bytes(4, "little")
"""How a tuple of five begins."""

ScratchOrder = tuple[str, list[tuple[str, bytes]], str, str]
"""The scratch directory of an attempt: (path, files, language, source).

``files`` are names and contents, there before it starts. Of a snippet ``language`` and ``source``, the name of its
file, tell how to read what it says last; both are empty for other programs.
"""

FreightOrder = tuple[list[tuple[str, str, str, bool]], list[str], str]
"""What goes into a scratch directory and comes out of it: (inputs, outputs, blob_dir).

``inputs`` are files that came with the task, each (name, digest, path of the blob, executable); ``outputs`` are the
patterns of what is to be kept, as blobs in ``blob_dir``.
"""

Order = tuple[
    int,
    int,
    list[str],
    dict[str, str],
    str | None,
    bytes | None,
    float | None,
    int | None,
    ScratchOrder | None,
    FreightOrder | None,
]
"""What to run: (task, attempt, argv, env, cwd, stdin, timeout_s, memory_mib, scratch, freight).

``freight`` needs ``scratch``. ``env`` comes on top of the base environment; ``None`` is "not given", or no limit.
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
``rota.functions.envelope``; ``facts`` are the task's id, its queue and the worker. ``extras`` may have ``env``
(variables for this task alone), ``gang`` (its id, the rank, and a host for each rank),
``cwd``, ``blobs`` (the local path of each digest that ``args`` refer to) and
``blob_dir`` (the directory for a large result).
"""


def encode_orders(orders: list[FunctionOrder]) -> bytes:
    """Orders as they travel: what those of one function share is there once, 50 bytes an order instead of 190."""
    return marshal.dumps(orders, ORDERS_MARSHAL_VERSION)


def decode_orders(encoded: bytes | bytearray) -> list[FunctionOrder]:
    """What `encode_orders` was given."""
    orders: list[FunctionOrder] = marshal.loads(encoded)
    return orders


def count_of(encoded: bytes | bytearray) -> int:
    """How many members an encoded list has.

    >>> count_of(encode_orders([]))
    0
    """
    return int.from_bytes(encoded[1:_LIST_HEADER_BYTES], "little")


def pack_report(
    started: list[tuple[object, ...]],
    ended: list[bytes],
    output: list[tuple[object, ...]],
    *,
    ended_count: int,
    trouble: str | None,
    marks: list[tuple[object, ...]],
) -> bytes:
    """The frame of a report whose ends are pieces of encoded records, ``ended_count`` records in all.

    >>> decode(pack_report([], [encode((1, 2))], [], ended_count=1, trouble=None, marks=[])[4:])
    ([], [(1, 2)], [], None, [])
    """
    parts = [
        _REPORT,
        marshal.dumps(started, MARSHAL_VERSION),
        b"[",
        ended_count.to_bytes(4, "little"),
        *ended,
        marshal.dumps(output, MARSHAL_VERSION),
        marshal.dumps(trouble, MARSHAL_VERSION),
        marshal.dumps(marks, MARSHAL_VERSION),
    ]
    return sum(map(len, parts)).to_bytes(HEADER_BYTES, "little") + b"".join(parts)


class Unpacker:
    """Puts frames together again from the pieces in which they arrive."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[object, ...]]:
        """Return the messages that are complete with ``data``, in order."""
        return [decode(body) for body in self.bodies(data)]

    def bodies(self, data: bytes) -> list[bytearray]:
        """Return the messages that are complete with ``data``, in order, as they are encoded."""
        buffer = self._buffer
        buffer += data
        bodies: list[bytearray] = []
        position = 0
        while len(buffer) - position >= HEADER_BYTES:
            start = position + HEADER_BYTES
            end = start + int.from_bytes(buffer[position:start], "little")
            if end > len(buffer):
                break
            bodies.append(buffer[start:end])
            position = end
        if position:
            del buffer[:position]
        return bodies

"""The window: memory that a slot shares with its runner, so that a call costs neither of them a system call.

It holds a few words, a place for the last progress mark, and a ring of results. Each word has one writer.
What was written before a runner died is there afterwards: a crash loses nothing that ended before it.

**Results.** The runner writes an encoded record into the ring and then `HEAD`, which tells in one word, so that both
fit each other, how many bytes there are and for which call (`ordinal`) the last record is. The slot reads, and moves
`TAIL`.

**What may start.** Orders are fed ahead, each with an ordinal that no other order of this runner ever has, in chunks
of an *era*. Before a call the runner writes its ordinal to `CURRENT`, and then looks whether `ERA` is still that of
the chunk. To take back what has not started, the slot raises `ERA`, waits, and reads `CURRENT`. A processor may delay
a store behind a later load, so without the wait each could miss the other's store, and a call would run that was
taken back. The wait is a system call and 0.1 ms, in which a store is out a thousand times over. Both may also see
the other's: then the slot takes for started what the runner gives up, so the runner says so in `REFUSED`.

**Whose output it is.** See `rota.worker.slots.functions.watch` and `rota.worker.slots.functions.console`.
"""

from __future__ import annotations

import mmap
import struct
from typing import Final

from rota.worker.slots.frames import decode, encode

__all__ = [
    "CURRENT",
    "ERA",
    "HEAD",
    "IS_READING",
    "IS_WATCHED",
    "ORDINAL_MAX",
    "OUTPUT_TAKEN",
    "OUTPUT_WAITS",
    "REFUSED",
    "RING_BYTES",
    "STARTED",
    "STOPPED",
    "TAIL",
    "Window",
]

# Words of the runner's, on cache lines of their own.
HEAD: Final = 0
"""(ordinal of the last record) × 2^40 + bytes written to the ring so far."""
CURRENT: Final = 1
"""The ordinal of the last call that was started, or refused."""
REFUSED: Final = 2
"""The ordinal of the last call that was given up after it was written to `CURRENT`."""
OUTPUT_WAITS: Final = 3
"""The ordinal of a call that has ended, and whose output the slot is to read: there is much of it."""
STARTED: Final = 4
"""When the last call started, on the steady clock; in `Window.times`."""
MARK_VERSION: Final = 5
"""Odd while the mark is being written; rises by 2 with each mark."""
MARK_ORDINAL: Final = 6
MARK_BYTES: Final = 7

# Words of the slot's.
TAIL: Final = 16
"""Bytes taken from the ring so far."""
ERA: Final = 17
IS_WATCHED: Final = 18
"""Whether the slot looks at the ring by itself, so that nobody need ring."""
IS_READING: Final = 19
"""Whether the slot is reading output and does not know yet whose it is."""
OUTPUT_TAKEN: Final = 20
"""The last `OUTPUT_WAITS` that is answered."""
MARKS_WATCHED: Final = 21
"""Whether the slot looks at marks by itself."""
STOPPED: Final = 22
"""The ordinal of the last call that is to end. A signal without it comes from somebody else, and means nothing."""

WORDS_BYTES: Final = 256
MARK_AT: Final = WORDS_BYTES
MARK_BYTES_MAX: Final = 4096 - WORDS_BYTES
"""A fraction and 200 characters, with much to spare."""
RING_AT: Final = 4096
RING_BYTES: Final = 1 << 20
"""Room for what the slot does not take at once: some thousand results, or three of the largest that travel inline."""

BYTES_BITS: Final = 40
BYTES_MASK: Final = (1 << BYTES_BITS) - 1
ORDINAL_MAX: Final = (1 << (64 - BYTES_BITS)) - 1
"""A runner is replaced before it comes to this."""

_WORD: Final = struct.Struct("<Q")


class Window:
    """The memory, made before the runner is forked. ``words`` and ``times`` are two views of the same words."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, RING_AT + RING_BYTES)
        view = memoryview(self._memory)
        self.words = view[:WORDS_BYTES].cast("Q")
        self.times = view[:WORDS_BYTES].cast("d")
        self.ring = view[RING_AT:]

    def reset(self) -> None:
        """Get ready for the next runner. The last one must be gone."""
        self._memory[:WORDS_BYTES] = bytes(WORDS_BYTES)

    # The runner's side ---------------------------------------------------------------------

    def write(self, head: int, record: bytes, ordinal: int) -> int:
        """Append a record behind ``head`` bytes; return how many there are then, or 0 if there is no room yet."""
        new_head = head + len(record)
        if new_head - self.words[TAIL] > RING_BYTES:
            return 0
        at = head % RING_BYTES
        end = at + len(record)
        if end <= RING_BYTES:
            self.ring[at:end] = record
        else:
            cut = RING_BYTES - at
            self.ring[at:] = record[:cut]
            self.ring[: end - RING_BYTES] = record[cut:]
        self.words[HEAD] = ordinal << BYTES_BITS | new_head
        return new_head

    def write_mark(self, ordinal: int, fraction: float | None, text: str) -> bool:
        """Replace the mark; return whether the slot must be told. For one thread at a time."""
        encoded = encode((fraction, text))
        assert len(encoded) <= MARK_BYTES_MAX
        words = self.words
        words[MARK_VERSION] += 1
        self._memory[MARK_AT : MARK_AT + len(encoded)] = encoded
        words[MARK_ORDINAL] = ordinal
        words[MARK_BYTES] = len(encoded)
        words[MARK_VERSION] += 1
        return not words[MARKS_WATCHED]

    # The slot's side -----------------------------------------------------------------------

    def take(self) -> tuple[int, bytes]:
        """Take all records: the ordinal of the last one ever, and the bytes that are new."""
        head = self.words[HEAD]
        tail = self.words[TAIL]
        end = head & BYTES_MASK
        if end == tail:
            return head >> BYTES_BITS, b""
        start, stop = tail % RING_BYTES, end % RING_BYTES
        data = bytes(self.ring[start:stop]) if start < stop else bytes(self.ring[start:]) + bytes(self.ring[:stop])
        self.words[TAIL] = end
        return head >> BYTES_BITS, data

    def find_mark(self, ordinal: int, seen: int) -> tuple[int, float | None, str] | None:
        """The mark of a call if it is newer than version ``seen``: its version, the fraction and the text."""
        words = self.words
        words[MARKS_WATCHED] = 1
        version = words[MARK_VERSION]
        if version == seen or version % 2 or words[MARK_ORDINAL] != ordinal:
            return None
        data = self._memory[MARK_AT : MARK_AT + min(words[MARK_BYTES], MARK_BYTES_MAX)]
        if words[MARK_VERSION] != version:
            return None
        fraction, text = decode(data)
        assert isinstance(text, str)
        return version, fraction if isinstance(fraction, float | int) else None, text

    def forget_marks(self) -> None:
        """Look at marks no more unless told."""
        self.words[MARKS_WATCHED] = 0

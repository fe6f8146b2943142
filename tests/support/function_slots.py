"""A real slot of functions under test: its keeper, its socket, and all that it said, without a pool."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import cloudpickle
import msgspec
import psutil

from rota.core.model import AttemptKey, TaskSeq
from rota.core.protocol import Ended, Mark, OutputChunk, Started
from rota.functions.envelope import INLINE_BYTES_MAX, blob_of, pack_blob, value_bytes
from rota.functions.failure import load_failure
from rota.functions.pickling import dump_call, load_value
from rota.worker.slots.control import KeeperControl
from rota.worker.slots.frames import FunctionOrder, encode_orders
from rota.worker.slots.link import SlotLink
from tests.support.waiting import wait_until_async

__all__ = ["FunctionBench", "function_bench", "patched_program"]

OUTPUT_LIMIT_BYTES: Final = 256 << 10

Report = tuple[list[Started], list[Ended], list[OutputChunk], str | None, list[Mark]]


def patched_program(*statements: str, **constants: object) -> str:
    """The program of the keeper, with other values of constants of the slot's, after some statements."""
    lines = [
        "import sys",
        "del sys.path[0]",
        "sys.path.append(sys.argv[1])",
        "from rota.worker.slots.functions import slot",
        *statements,
        *(f"slot.{name} = {value!r}" for name, value in constants.items()),
        "from rota.worker.slots.functions.keeper import main",
        "main()",
    ]
    return "\n".join(lines)


class FunctionBench:
    """One slot. Functions and large values lie in files below ``folder``."""

    def __init__(self, folder: Path, *, grace_s: float = 0.3, interpreter: str | None = None) -> None:
        self.blob_dir = folder / "blobs"
        self.blob_dir.mkdir(exist_ok=True)
        self.started: dict[AttemptKey, Started] = {}
        self.ended: dict[AttemptKey, Ended] = {}
        self.order_of_ends: list[AttemptKey] = []
        self.reports = 0
        self.chunks: list[OutputChunk] = []
        self.marks: list[Mark] = []
        self.troubles: list[str] = []
        self.has_left = False
        self._grace_s = grace_s
        self._last = 0
        environment = {"PATH": os.environ["PATH"], "BASE": "given"}
        self._environment = environment
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.control = KeeperControl(
            self, environment=environment, file_limit=limit, program="function", interpreter=interpreter
        )
        self._link: SlotLink | None = None

    async def start(self) -> None:
        """Start the keeper, and have it fork the slot."""
        await self.control.start()
        self.link = SlotLink(1, 0, on_message=self._on_message, on_end=self._on_end)
        self.link.send(("setup", OUTPUT_LIMIT_BYTES, float(self._grace_s), self._environment))
        self.control.fork(1, self.link.take_far_end())

    async def close(self) -> None:
        """Hang up, and wait until everything is gone."""
        self.link.close()
        await self.control.close()

    # What the agent does ---------------------------------------------------------------------

    def order(
        self,
        function: Callable[..., object],
        *args: object,
        timeout_s: float | None = None,
        memory_mib: int | None = None,
        blob_dir: Path | None = None,
        extras: dict[str, object] | None = None,
        **kwargs: object,
    ) -> FunctionOrder:
        """Make an order for a new attempt; write its function, and its arguments if they are large, to files."""
        self._last += 1
        path = self._write(cloudpickle.dumps(function))
        pieces = dump_call(args, kwargs)
        envelope = b"".join(pieces)
        more: dict[str, object] = {"blob_dir": str(blob_dir or self.blob_dir), **(extras or {})}
        if value_bytes(pieces) > INLINE_BYTES_MAX:
            blob = self._write(envelope)
            more["blobs"] = {Path(blob).name: blob}
            envelope = pack_blob(Path(blob).name, len(envelope))
        facts = f"t{self._last}", "night", "w1"
        return (self._last, 1, path, envelope, timeout_s, memory_mib, facts, more)

    def run(self, orders: list[FunctionOrder]) -> list[AttemptKey]:
        """Hand orders over in one message."""
        self.link.send(("calls", encode_orders(orders)))
        return [(TaskSeq(order[0]), order[1]) for order in orders]

    def submit(self, function: Callable[..., object], *args: object, **options: Any) -> AttemptKey:
        """Hand over one order."""
        (key,) = self.run([self.order(function, *args, **options)])
        return key

    async def end_of(self, key: AttemptKey) -> Ended:
        """Wait for an attempt to end."""
        await wait_until_async(lambda: key in self.ended, what=f"the end of {key}")
        return self.ended[key]

    async def result(self, function: Callable[..., object], *args: object, **options: Any) -> Ended:
        """Run a function alone."""
        return await self.end_of(self.submit(function, *args, **options))

    async def value(self, function: Callable[..., object], *args: object, **options: Any) -> Any:
        """Run a function alone, and return what it returned."""
        return self.value_of(await self.result(function, *args, **options))

    def value_of(self, ended: Ended) -> Any:
        """What a function returned, read from its blob if it is large."""
        assert ended.cause is None, ended
        named = blob_of(ended.value)
        if named is None:
            return load_value(ended.value)
        digest, size = named
        assert ended.blobs == (digest,)
        content = (self.blob_dir / digest[:2] / digest).read_bytes()
        assert len(content) == size
        assert hashlib.sha256(content).hexdigest() == digest
        return load_value(content)

    def failure_of(self, ended: Ended) -> tuple[BaseException | None, str]:
        """What a function raised, and its traceback."""
        assert ended.cause is not None, ended
        return load_failure(ended.value)

    async def start_of(self, key: AttemptKey) -> Started:
        """Wait for an attempt to be told as started."""
        await wait_until_async(lambda: key in self.started, what=f"the start of {key}")
        return self.started[key]

    def output_of(self, key: AttemptKey, stream: str) -> bytes:
        """What was told of an attempt's output, put together; nothing may be missing."""
        data = b""
        for chunk in self.chunks:
            if (chunk.task, chunk.attempt, chunk.stream) == (*key, stream):
                assert chunk.offset == len(data)
                data += chunk.data
        return data

    # Processes -------------------------------------------------------------------------------

    @property
    def keeper(self) -> psutil.Process:
        """The keeper of the slots of functions."""
        (keeper,) = [child for child in psutil.Process().children() if child.name() == "rota-keeper-fn"]
        return keeper

    @property
    def slot(self) -> psutil.Process:
        """The slot."""
        (slot,) = self.keeper.children()
        return slot

    @property
    def runner(self) -> psutil.Process:
        """The slot's runner."""
        (runner,) = self.slot.children()
        return runner

    # What is said ----------------------------------------------------------------------------

    def _on_message(self, link: SlotLink, message: tuple[object, ...]) -> None:
        started, ended, output, trouble, marks = msgspec.convert(message, Report)
        self.reports += 1
        for start in started:
            self.started[start.task, start.attempt] = start
        self.chunks += output
        self.marks += marks
        if trouble is not None:
            self.troubles.append(trouble)
        for end in ended:
            key = (end.task, end.attempt)
            assert key not in self.ended, f"{key} ended twice"
            self.ended[key] = end
            self.order_of_ends.append(key)

    def _on_end(self, link: SlotLink) -> None:
        self.has_left = True

    def on_slot_forked(self, number: int) -> None:
        pass

    def on_slot_gone(self, number: int, message: str, *, is_empty: bool) -> None:
        self.troubles.append(message)

    def on_keeper_lost(self) -> None:
        pass

    def _write(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        folder = self.blob_dir / digest[:2]
        folder.mkdir(exist_ok=True)
        path = folder / digest
        if not path.exists():
            path.write_bytes(content)
        return str(path)


@asynccontextmanager
async def function_bench(folder: Path, **options: Any) -> AsyncIterator[FunctionBench]:
    """Have a slot while the block runs."""
    bench = FunctionBench(folder, **options)
    await bench.start()
    try:
        yield bench
    finally:
        await asyncio.shield(bench.close())

"""Reading the first piece of output before the status is sent, so that a failure still gets its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

from rota.coordinator.http.streams import close_iterator

__all__ = ["text_of_logs"]


async def text_of_logs(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Return the same chunks, the first of them read already.

    Only for output that is not followed: that of a task which writes nothing would not come.
    """
    first = await anext(chunks, None)
    return _again(first, chunks)


async def _again(first: bytes | None, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        if first is not None:
            yield first
            async for chunk in chunks:
                yield chunk
    finally:
        await close_iterator(chunks)

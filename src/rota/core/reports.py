"""Cuts what a worker has to tell into reports of a bounded size, in an order that is safe to break anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rota.core.protocol import Ended, OutputChunk, Started

__all__ = ["REPORT_BYTES_MAX", "REPORT_ITEM_BYTES", "ReportParts", "cut_reports"]

REPORT_BYTES_MAX: Final = 512 << 10
"""Of one report, so that a frame with its envelope stays under 1 MiB."""

REPORT_ITEM_BYTES: Final = 96
"""What a start, an end or a piece of output costs besides its bytes, about."""

DIGEST_BYTES: Final = 66
"""The name of a blob."""

OUTPUT_BYTES: Final = 84
"""What a file that was brought back costs besides its name."""

ReportParts = tuple[list[Started], list[Ended], list[OutputChunk]]
"""The lists of one report, in the order of its fields."""


def cut_reports(
    started: Sequence[Started], ended: Sequence[Ended], output: Sequence[OutputChunk]
) -> list[tuple[ReportParts, int]]:
    """Cut what is to be told into reports of a bounded size, each with that size.

    Output goes before the end that it belongs to, and ends go before the starts of what stood behind them.
    """
    pieces: list[tuple[ReportParts, int]] = []
    parts: ReportParts = ([], [], [])
    size = 0

    def room_for(cost: int) -> ReportParts:
        nonlocal parts, size
        if size and size + cost > REPORT_BYTES_MAX:
            pieces.append((parts, size))
            parts, size = ([], [], []), 0
        size += cost
        return parts

    for chunk in output:
        room_for(REPORT_ITEM_BYTES + len(chunk.data))[2].append(chunk)
    for end in ended:
        held = (
            len(end.stdout) + len(end.stderr) + len(end.message or "") + len(end.value) + DIGEST_BYTES * len(end.blobs)
        )
        if end.outputs:
            held += sum(OUTPUT_BYTES + len(output.name.encode()) for output in end.outputs)
        room_for(REPORT_ITEM_BYTES + held)[1].append(end)
    for start in started:
        room_for(REPORT_ITEM_BYTES)[0].append(start)
    return [*pieces, (parts, size)] if size else pieces

"""How records become rows: what goes into a statement's parameters, and what comes back out.

A turn is one set of parameters: lists as JSON, bytes joined end to end with (position, length) in the JSON.
Progress and attempts are kept whole as MessagePack arrays, because a column more costs each change about
0.3 µs twice over, and two changes a task are the store's main work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from msgspec.structs import astuple

from rota.core.changes import Changes, Fence
from rota.core.model import (
    ENDED_STATES,
    AttemptRecord,
    ClientRecord,
    Progress,
    Setting,
    TaskFacts,
    TaskRecord,
    TaskSeq,
    TaskState,
    WorkerRecord,
)
from rota.store.queries import ROW_BYTES_BITS

__all__ = [
    "LoadedRow",
    "TurnParameters",
    "decode_attempt",
    "decode_attempts",
    "decode_clients",
    "decode_fetched",
    "decode_loaded",
    "decode_progress",
    "decode_settings",
    "decode_workers",
    "encode_attempt",
    "encode_progress",
    "encode_seqs",
    "encode_turn",
]

TurnParameters = tuple[int | str | bytes | None, ...]
"""In the order of the columns of the view ``turn``."""

LoadedRow = tuple[
    TaskSeq, str | None, str | None, str, int, str | None, float, float | None, float | None, bytes, bytes
]
"""A task with its progress, as ``LOAD`` gives it: the facts in the order of their fields, then the progress."""

_FetchedRow = tuple[TaskSeq, str | None, str | None, str, int, str | None, float, float | None, float | None, str, str]
"""The same from ``FETCH``, with the bytes in hex."""

_to_json: Final = msgspec.json.Encoder().encode
_to_msgpack: Final = msgspec.msgpack.Encoder().encode
_progress_decoder: Final = msgspec.msgpack.Decoder(Progress)
_attempt_decoder: Final = msgspec.msgpack.Decoder(AttemptRecord)
_workers_decoder: Final = msgspec.json.Decoder(list[WorkerRecord])
_clients_decoder: Final = msgspec.json.Decoder(list[ClientRecord])
_settings_decoder: Final = msgspec.json.Decoder(list[tuple[str, str, str]])
_hex_decoder: Final = msgspec.json.Decoder(list[str])
_rows_decoder: Final = msgspec.json.Decoder(list[_FetchedRow])


def encode_turn(changes: Changes, fence: Fence) -> TurnParameters:
    """Make the parameters of ``COMMIT_TURN``: about 1 µs a row with the interpreter lock held."""
    specs: list[bytes] = []
    accepted, at = _facts_runs(changes.accepted, specs)
    revived, _ = _facts_rows(changes.revived, specs, at=at)
    pieces: list[bytes] = []
    opened, ended = _progress_rows(changes.progress, pieces)
    attempts, attempt_bytes = _attempt_rows(changes.attempts)
    states = [row[1] for row in ended]
    return (
        fence.epoch,
        fence.holder,
        fence.number,
        max((facts.seq for facts in (*changes.accepted, *changes.revived)), default=0),
        states.count(TaskState.COMPLETED),
        states.count(TaskState.FAILED),
        states.count(TaskState.CANCELLED),
        _json_or_null(accepted),
        _json_or_null(revived),
        b"".join(specs),
        _json_or_null(opened),
        _json_or_null(ended),
        b"".join(pieces),
        _json_or_null(attempts),
        attempt_bytes,
        _json_or_null([(worker.id, _to_json(worker).decode()) for worker in changes.workers]),
        _json_or_null(changes.workers_gone),
        _json_or_null([(client.id, _to_json(client).decode()) for client in changes.clients]),
        _json_or_null(changes.clients_gone),
        _json_or_null([(setting.kind, setting.name, setting.data) for setting in changes.settings]),
        _json_or_null(changes.settings_gone),
    )


def encode_seqs(seqs: Iterable[TaskSeq]) -> str:
    """Make the JSON array of a statement that takes many keys."""
    return _to_json(list(seqs)).decode()


def encode_progress(progress: Progress) -> bytes:
    """Encode for the column ``progress.data``."""
    return _to_msgpack(progress)


def encode_attempt(attempt: AttemptRecord) -> bytes:
    """Encode for the column ``attempt.data``."""
    return _to_msgpack(attempt)


def decode_settings(text: str) -> list[Setting]:
    """Read what ``SETTINGS`` gives."""
    return [Setting(*row) for row in _settings_decoder.decode(text)]


def decode_progress(data: bytes) -> Progress:
    """Read what `encode_progress` wrote, now or in an older version."""
    return _progress_decoder.decode(data)


def decode_attempt(data: bytes) -> AttemptRecord:
    """Read what `encode_attempt` wrote, now or in an older version."""
    return _attempt_decoder.decode(data)


def decode_attempts(text: str) -> list[AttemptRecord]:
    """Read what ``ATTEMPTS`` gives."""
    return [_attempt_decoder.decode(bytes.fromhex(data)) for data in _hex_decoder.decode(text)]


def decode_workers(text: str) -> list[WorkerRecord]:
    """Read what ``WORKERS`` gives."""
    return _workers_decoder.decode(text)


def decode_clients(text: str) -> list[ClientRecord]:
    """Read what ``CLIENTS`` gives."""
    return _clients_decoder.decode(text)


def decode_fetched(text: str) -> list[TaskRecord]:
    """Read what ``FETCH`` gives."""
    return [
        TaskRecord(TaskFacts(*row[:9], bytes.fromhex(row[9])), _progress_decoder.decode(bytes.fromhex(row[10])))
        for row in _rows_decoder.decode(text)
    ]


def decode_loaded(rows: Iterable[LoadedRow]) -> list[TaskRecord]:
    """Read what ``LOAD`` gives: about 1 µs a row."""
    decode = _progress_decoder.decode
    return [TaskRecord(TaskFacts(*row[:-1]), decode(row[-1])) for row in rows]


def _facts_runs(facts: Sequence[TaskFacts], specs: list[bytes]) -> tuple[list[tuple[object, ...]], int]:
    """New tasks in runs of those that differ by seq and spec alone; appends to ``specs``, and says how far they reach.

    Numbers are given without gaps, so those of a run are known by its first.
    """
    runs: list[tuple[object, ...]] = []
    items: list[int] = []
    shared: tuple[object, ...] | None = None
    seq, at = -1, 1
    for one in facts:
        alike = (
            one.name,
            one.queue,
            one.priority,
            one.labels,
            one.created_at,
            one.start_at,
            one.deadline_at,
        )
        if alike != shared or one.chosen_id is not None or one.seq != seq:
            items = []
            runs.append((one.seq, one.chosen_id, *alike, items))
            shared = alike if one.chosen_id is None else None
        spec = one.spec
        items.append(at << ROW_BYTES_BITS | len(spec))
        specs.append(spec)
        at += len(spec)
        seq = one.seq + 1
    return runs, at


def _facts_rows(facts: Sequence[TaskFacts], specs: list[bytes], *, at: int) -> tuple[list[tuple[object, ...]], int]:
    """Rows for ``task``; appends to ``specs``, whose joined bytes reach up to position ``at`` so far."""
    rows: list[tuple[object, ...]] = []
    for one in facts:
        *head, spec = astuple(one)
        rows.append((*head, at, len(spec)))
        specs.append(spec)
        at += len(spec)
    return rows, at


def _progress_rows(
    changed: Sequence[tuple[TaskSeq, Progress]], pieces: list[bytes]
) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """What has not ended, in runs of consecutive tasks that share state and worker, and what has, row by row.

    Appends the bytes of both to ``pieces``.
    """
    runs: list[tuple[object, ...]] = []
    ended: list[tuple[object, ...]] = []
    items: list[int] = []
    next_seq = -1
    shared: tuple[TaskState, str | None] | None = None
    at = 1
    for seq, progress in changed:
        data = _to_msgpack(progress)
        size = len(data)
        pieces.append(data)
        state, worker = progress.state, progress.worker
        if state in ENDED_STATES:
            ended.append((seq, state, worker, progress.ended_at, at, size))
        else:
            if seq != next_seq or (state, worker) != shared:
                items, shared = [], (state, worker)
                runs.append((seq, state, worker, items))
            items.append(at << ROW_BYTES_BITS | size)
            next_seq = seq + 1
        at += size
    return runs, ended


def _attempt_rows(attempts: Sequence[AttemptRecord]) -> tuple[list[tuple[object, ...]], bytes]:
    rows: list[tuple[object, ...]] = []
    pieces: list[bytes] = []
    at = 1
    for attempt in attempts:
        data = _to_msgpack(attempt)
        rows.append((attempt.seq, attempt.number, at, len(data)))
        pieces.append(data)
        at += len(data)
    return rows, b"".join(pieces)


def _json_or_null(rows: Sequence[object]) -> str | None:
    return _to_json(rows).decode() if rows else None

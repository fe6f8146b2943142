"""Every SQL statement of the SQLite store, by name.

Two rules shape them, both because Python's interpreter lock is given back only while SQLite works on one
step, and a busy main thread takes 5 ms to hand it over again:

- **Writing is one statement.** ``COMMIT_TURN`` inserts one row into a temporary view whose trigger does all that
  a turn needs, fence included. Outside a transaction a statement is its own, so that even the fsync happens
  within the one step. Lists travel as JSON and are taken apart by ``jsonb_each``, which costs a third of what
  ``json_each`` does; bytes travel end to end in one blob, cut up by ``substr`` (which makes NULL of
  an empty piece of an empty blob, hence the ``coalesce``).
- **Reading is one row.** What may be many rows comes back as one JSON text, bytes as hex. Only ``LOAD``, at a
  start, when nothing else runs, reads row by row.

A trigger takes no parameters, only the columns of ``NEW``; those of the two views are named below.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ATTEMPTS",
    "CLIENTS",
    "COMMIT_TURN",
    "COUNT_BY_STATE",
    "COUNT_ENDED",
    "FENCE",
    "FENCE_REFUSED",
    "FETCH",
    "FIND",
    "INSTALL_LEADER",
    "LOAD",
    "MAKE_FENCE",
    "PICK_EXPIRED",
    "PICK_SURPLUS",
    "PRUNE",
    "ROW_BYTES_BITS",
    "SETTINGS",
    "WORKERS",
    "WRITER_TRIGGERS",
]

ROW_BYTES_BITS: Final = 21
"""Enough for the length of what a row keeps as bytes: 2 MiB, twice the largest spec."""

FENCE_REFUSED: Final = "fence refused"
"""What the triggers raise when the fence does not match: how the store tells it from our own mistakes."""

# The fence. All of these are one row; the id says so.
MAKE_FENCE: Final = """
INSERT INTO fence (id, cluster, epoch, holder, number, last_seq, completed, failed, cancelled)
VALUES (1, ?, 0, '', 0, 0, 0, 0, 0)
ON CONFLICT (id) DO NOTHING
"""

INSTALL_LEADER: Final = "UPDATE fence SET epoch = epoch + 1, holder = ? WHERE id = 1"

FENCE: Final = "SELECT cluster, epoch, holder, number, last_seq FROM fence WHERE id = 1"

# The write of a turn, and of one step of retention. For every list: the positions in its JSON arrays are the
# order of the columns; the last two are where the row's bytes begin in the blob (from 1) and how many they are.
WRITER_TRIGGERS: Final = f"""
CREATE TEMP VIEW turn AS SELECT
    NULL AS epoch, NULL AS holder, NULL AS number, NULL AS last_seq,
    NULL AS completed, NULL AS failed, NULL AS cancelled,
    NULL AS accepted, NULL AS revived, NULL AS specs,
    NULL AS open, NULL AS ended, NULL AS progress_bytes,
    NULL AS attempts, NULL AS attempt_bytes,
    NULL AS workers, NULL AS workers_gone,
    NULL AS clients, NULL AS clients_gone,
    NULL AS settings, NULL AS settings_gone;

CREATE TEMP TRIGGER commit_turn INSTEAD OF INSERT ON turn BEGIN
    -- First of all: only the holder writes, and only the next number. It is also what locks the file.
    UPDATE fence SET
        number = NEW.number,
        last_seq = max(last_seq, NEW.last_seq),
        completed = completed + NEW.completed,
        failed = failed + NEW.failed,
        cancelled = cancelled + NEW.cancelled
    WHERE id = 1 AND epoch = NEW.epoch AND holder = NEW.holder AND number = NEW.number - 1;
    SELECT RAISE(ABORT, '{FENCE_REFUSED}') WHERE changes() = 0;

    -- Most new tasks differ from the one before by nothing but their spec, so they come in runs: what they share
    -- is taken apart once a run (the LIMIT makes SQLite do so), and a spec is one number, its place in the blob × 2^21
    -- and its length. It halves the cost of a row.
    INSERT INTO task (seq, chosen_id, name, queue, priority, labels, created_at, start_at, deadline_at, spec)
    SELECT first + item.key, chosen_id, name, queue, priority, labels, created_at, start_at, deadline_at,
        coalesce(substr(NEW.specs, item.value >> {ROW_BYTES_BITS}, item.value & {(1 << ROW_BYTES_BITS) - 1}), x'')
    FROM (
        SELECT value->>0 AS first, value->>1 AS chosen_id, value->>2 AS name, value->>3 AS queue,
            value->>4 AS priority, value->>5 AS labels, value->>6 AS created_at, value->>7 AS start_at,
            value->>8 AS deadline_at, value->'$[9]' AS items
        FROM jsonb_each(NEW.accepted) LIMIT -1
    ) AS run
    CROSS JOIN json_each(run.items) AS item;

    -- What counts as ended and is brought back counts no more: only a revival leads out of an end.
    UPDATE fence SET
        completed = fence.completed - old.completed,
        failed = fence.failed - old.failed,
        cancelled = fence.cancelled - old.cancelled
    FROM (
        SELECT count(*) FILTER (WHERE progress.state = 3) AS completed,
            count(*) FILTER (WHERE progress.state = 4) AS failed,
            count(*) FILTER (WHERE progress.state = 5) AS cancelled
        FROM jsonb_each(NEW.revived) CROSS JOIN progress ON progress.seq = value->>0
        WHERE progress.state >= 3
    ) AS old
    WHERE id = 1 AND NEW.revived IS NOT NULL;
    -- Where the row is still there it is right, but for its times: a person's retry is not bound by the old ones.
    INSERT INTO task (seq, chosen_id, name, queue, priority, labels, created_at, start_at, deadline_at, spec)
    SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, value->>8,
        coalesce(substr(NEW.specs, value->>9, value->>10), x'')
    FROM jsonb_each(NEW.revived) WHERE true
    ON CONFLICT (seq) DO UPDATE SET start_at = excluded.start_at, deadline_at = excluded.deadline_at;

    -- New tasks and old ones alike. What has not ended comes in runs of consecutive tasks that share state and worker.
    INSERT INTO progress (seq, state, worker, ended_at, data)
    SELECT first + item.key, state, worker, NULL,
        substr(NEW.progress_bytes, item.value >> {ROW_BYTES_BITS}, item.value & {(1 << ROW_BYTES_BITS) - 1})
    FROM (
        SELECT value->>0 AS first, value->>1 AS state, value->>2 AS worker, value->'$[3]' AS items
        FROM jsonb_each(NEW.open) LIMIT -1
    ) AS run
    CROSS JOIN json_each(run.items) AS item
    WHERE true
    ON CONFLICT (seq) DO UPDATE SET
        state = excluded.state, worker = excluded.worker, ended_at = excluded.ended_at, data = excluded.data;

    INSERT INTO progress (seq, state, worker, ended_at, data)
    SELECT value->>0, value->>1, value->>2, value->>3, substr(NEW.progress_bytes, value->>4, value->>5)
    FROM jsonb_each(NEW.ended) WHERE true
    ON CONFLICT (seq) DO UPDATE SET
        state = excluded.state, worker = excluded.worker, ended_at = excluded.ended_at, data = excluded.data;

    INSERT INTO attempt (seq, number, data)
    SELECT value->>0, value->>1, substr(NEW.attempt_bytes, value->>2, value->>3)
    FROM jsonb_each(NEW.attempts);

    INSERT INTO worker (id, data)
    SELECT value->>0, value->>1 FROM jsonb_each(NEW.workers) WHERE true
    ON CONFLICT (id) DO UPDATE SET data = excluded.data;

    DELETE FROM worker WHERE id IN (SELECT value FROM json_each(NEW.workers_gone));

    -- First those that go: one that was forgotten and comes again in the same turn is there afterwards.
    DELETE FROM client WHERE id IN (SELECT value FROM json_each(NEW.clients_gone));

    INSERT INTO client (id, data)
    SELECT value->>0, value->>1 FROM jsonb_each(NEW.clients) WHERE true
    ON CONFLICT (id) DO UPDATE SET data = excluded.data;

    -- Likewise: what was removed and is set again in the same turn is there afterwards.
    DELETE FROM setting WHERE (kind, name) IN (SELECT value->>0, value->>1 FROM json_each(NEW.settings_gone));

    INSERT INTO setting (kind, name, data)
    SELECT value->>0, value->>1, value->>2 FROM jsonb_each(NEW.settings) WHERE true
    ON CONFLICT (kind, name) DO UPDATE SET data = excluded.data;
END;

CREATE TEMP VIEW pruning AS SELECT
    NULL AS epoch, NULL AS holder, NULL AS seqs, NULL AS completed, NULL AS failed, NULL AS cancelled;

CREATE TEMP TRIGGER prune INSTEAD OF INSERT ON pruning BEGIN
    UPDATE fence SET
        completed = completed - NEW.completed,
        failed = failed - NEW.failed,
        cancelled = cancelled - NEW.cancelled
    WHERE id = 1 AND epoch = NEW.epoch AND holder = NEW.holder;
    SELECT RAISE(ABORT, '{FENCE_REFUSED}') WHERE changes() = 0;
    DELETE FROM attempt WHERE seq IN (SELECT value FROM json_each(NEW.seqs));
    DELETE FROM progress WHERE seq IN (SELECT value FROM json_each(NEW.seqs));
    DELETE FROM task WHERE seq IN (SELECT value FROM json_each(NEW.seqs));
END;
"""

COMMIT_TURN: Final = f"INSERT INTO turn VALUES ({', '.join('?' * 21)})"

PRUNE: Final = "INSERT INTO pruning VALUES (?, ?, ?, ?, ?, ?)"

# Retention: [seq, state] pairs of tasks to remove. Age is looked at within the oldest ?2 tasks of each ended
# state, because an index on the time of the end would cost every task; count removes failed tasks last, and of
# those in the same window what ended first: a task that ran for days and has just ended is not the oldest.
PICK_EXPIRED: Final = """
SELECT json_group_array(json_array(seq, state)) FROM (
    SELECT seq, state FROM (
        SELECT * FROM (SELECT seq, state, ended_at FROM progress WHERE state = 3 ORDER BY seq LIMIT ?2)
        UNION ALL
        SELECT * FROM (SELECT seq, state, ended_at FROM progress WHERE state = 4 ORDER BY seq LIMIT ?2)
        UNION ALL
        SELECT * FROM (SELECT seq, state, ended_at FROM progress WHERE state = 5 ORDER BY seq LIMIT ?2)
    ) WHERE ended_at < ?1 ORDER BY seq LIMIT ?3
)
"""

PICK_SURPLUS: Final = """
SELECT json_group_array(json_array(seq, state)) FROM (
    SELECT seq, state FROM (
        SELECT * FROM (SELECT seq, state, ended_at FROM progress WHERE state = 3 ORDER BY seq LIMIT ?1)
        UNION ALL
        SELECT * FROM (SELECT seq, state, ended_at FROM progress WHERE state = 5 ORDER BY seq LIMIT ?1)
        UNION ALL
        SELECT * FROM (SELECT seq, state, ended_at FROM progress WHERE state = 4 ORDER BY seq LIMIT ?1)
    ) ORDER BY state = 4, ended_at, seq LIMIT ?2
)
"""

# Unfinished tasks after a seq, in order of it: row by row, since nothing else runs while a start loads.
LOAD: Final = """
SELECT task.seq, chosen_id, name, queue, priority, labels, created_at, start_at, deadline_at, spec, data
FROM (
    SELECT * FROM (SELECT seq FROM progress WHERE state = 0 AND seq > ?1 ORDER BY seq LIMIT ?2)
    UNION ALL
    SELECT * FROM (SELECT seq FROM progress WHERE state = 1 AND seq > ?1 ORDER BY seq LIMIT ?2)
    UNION ALL
    SELECT * FROM (SELECT seq FROM progress WHERE state = 2 AND seq > ?1 ORDER BY seq LIMIT ?2)
    ORDER BY seq LIMIT ?2
) AS picked
CROSS JOIN task ON task.seq = picked.seq
CROSS JOIN progress ON progress.seq = picked.seq
"""

# Whole tasks by seq, in the order asked for.
FETCH: Final = """
SELECT json_group_array(json_array(
    task.seq, chosen_id, name, queue, priority, labels, created_at, start_at, deadline_at, hex(spec), hex(data)
) ORDER BY asked.key)
FROM json_each(?) AS asked
CROSS JOIN task ON task.seq = asked.value
CROSS JOIN progress ON progress.seq = asked.value
"""

# [seq, bytes] of the tasks with these seqs, or with these chosen ids.
FIND: Final = """
SELECT json_group_array(json_array(seq, size)) FROM (
    SELECT task.seq, octet_length(spec) + octet_length(data) AS size
    FROM json_each(?1) AS asked
    CROSS JOIN task ON task.seq = asked.value
    CROSS JOIN progress ON progress.seq = task.seq
    UNION
    SELECT task.seq, octet_length(spec) + octet_length(data)
    FROM json_each(?2) AS asked
    CROSS JOIN task ON task.chosen_id = asked.value
    CROSS JOIN progress ON progress.seq = task.seq
)
"""

# Superseded attempts of a task, oldest first.
ATTEMPTS: Final = "SELECT json_group_array(hex(data) ORDER BY number) FROM attempt WHERE seq = ?"

# All workers, in order of their ids.
WORKERS: Final = "SELECT json_group_array(json(data) ORDER BY id) FROM worker"

# All sessions of the SDK, in order of their ids.
CLIENTS: Final = "SELECT json_group_array(json(data) ORDER BY id) FROM client"

# All settings, in order of kind and name, as arrays.
SETTINGS: Final = "SELECT json_group_array(json_array(kind, name, data) ORDER BY kind, name) FROM setting"

# Kept tasks by state: the ended ones from the counters, the others by walking their part of the index.
COUNT_BY_STATE: Final = """
SELECT json_array(
    (SELECT count(*) FROM progress WHERE state = 0),
    (SELECT count(*) FROM progress WHERE state = 1),
    (SELECT count(*) FROM progress WHERE state = 2),
    completed, failed, cancelled
) FROM fence WHERE id = 1
"""

COUNT_ENDED: Final = "SELECT completed + failed + cancelled FROM fence WHERE id = 1"

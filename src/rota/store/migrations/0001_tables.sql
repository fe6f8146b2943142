-- The first schema: see ../schema.sql for what everything means.

CREATE TABLE fence (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    cluster TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    holder TEXT NOT NULL,
    number INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    completed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    cancelled INTEGER NOT NULL
) STRICT;

CREATE TABLE task (
    seq INTEGER PRIMARY KEY,
    chosen_id TEXT,
    name TEXT,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    labels TEXT,
    created_at REAL NOT NULL,
    start_at REAL,
    deadline_at REAL,
    spec BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX task_chosen_id ON task (chosen_id) WHERE chosen_id IS NOT NULL;

CREATE INDEX task_name ON task (name) WHERE name IS NOT NULL;

CREATE TABLE progress (
    seq INTEGER PRIMARY KEY,
    state INTEGER NOT NULL,
    worker TEXT,
    ended_at REAL,
    data BLOB NOT NULL
) STRICT;

CREATE INDEX progress_state ON progress (state);

CREATE TABLE attempt (
    seq INTEGER NOT NULL,
    number INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (seq, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE worker (
    id TEXT PRIMARY KEY,
    data TEXT NOT NULL
) STRICT, WITHOUT ROWID;

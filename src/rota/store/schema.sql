-- The schema as it stands after all migrations. New files are made from this; a test compares both ways.
--
-- A task is two rows under one key: what never changes (task) and what does (progress), because a change
-- rewrites its whole row and a spec may be a mebibyte. There are three secondary indexes, since each costs
-- every task about a microsecond; everything else that can be asked for is found by walking rows, newest first.

-- One row: who may write, how far writing has come, and how many ended tasks are kept.
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

-- rota.core.model.TaskFacts: written once.
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

-- Ids that users chose; generated ones contain the key.
CREATE UNIQUE INDEX task_chosen_id ON task (chosen_id) WHERE chosen_id IS NOT NULL;

-- History by name, exact or by its beginning.
CREATE INDEX task_name ON task (name) WHERE name IS NOT NULL;

-- rota.core.model.Progress, whole, as MessagePack in data; beside it only what SQL must filter by.
CREATE TABLE progress (
    seq INTEGER PRIMARY KEY,
    state INTEGER NOT NULL,
    worker TEXT,
    ended_at REAL,
    data BLOB NOT NULL
) STRICT;

-- Unfinished tasks for loading, history by state, what retention may remove; each in order of seq.
CREATE INDEX progress_state ON progress (state);

-- rota.core.model.AttemptRecord, whole, as MessagePack.
CREATE TABLE attempt (
    seq INTEGER NOT NULL,
    number INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (seq, number)
) STRICT, WITHOUT ROWID;

-- rota.core.model.WorkerRecord, whole, as JSON.
CREATE TABLE worker (
    id TEXT PRIMARY KEY,
    data TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- rota.core.model.ClientRecord, whole, as JSON: how far each session of the SDK has come.
CREATE TABLE client (
    id TEXT PRIMARY KEY,
    data TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- rota.core.model.Setting: what operators have set, by kind (queue, limit) and name.
CREATE TABLE setting (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

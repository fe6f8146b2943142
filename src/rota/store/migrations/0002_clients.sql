-- Sessions of the SDK: see ../schema.sql.

CREATE TABLE client (
    id TEXT PRIMARY KEY,
    data TEXT NOT NULL
) STRICT, WITHOUT ROWID;

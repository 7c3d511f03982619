-- The store: one row per object, sealed. Nothing in it can be read without the unlock key.
--
-- Rows are numbered by the order of their making, so that new ones are appended to the end of the
-- file; where an object lies is kept in memory, and ids need no index here.

CREATE TABLE store (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    id       TEXT    NOT NULL,             -- names this store in everything it seals
    version  INTEGER NOT NULL,             -- index of the last write
    head     BLOB    NOT NULL              -- sealed: a keyed digest over all rows
) STRICT;

CREATE TABLE keyring (
    id       INTEGER PRIMARY KEY,
    usage    INTEGER NOT NULL,
    sealed   BLOB    NOT NULL              -- the key, sealed under the unlock key
) STRICT;

CREATE TABLE objects (
    row      INTEGER PRIMARY KEY,
    kind     INTEGER NOT NULL,
    id       TEXT    NOT NULL,
    version  INTEGER NOT NULL,
    key_id   INTEGER NOT NULL,             -- the key it is sealed with
    sealed   BLOB    NOT NULL
) STRICT;

-- The payload of the object with the same row number.
CREATE TABLE payloads (
    row      INTEGER PRIMARY KEY,
    kind     INTEGER NOT NULL,
    id       TEXT    NOT NULL,
    version  INTEGER NOT NULL,
    key_id   INTEGER NOT NULL,
    sealed   BLOB    NOT NULL
) STRICT;

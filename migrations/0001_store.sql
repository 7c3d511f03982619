-- The store: sealed rows. Nothing in them can be read without the unlock key.
--
-- All rows lie in one table, so that whatever a batch of writes changes is one statement and few
-- pages. They are numbered by the order of their making: new ones are appended to the end of the
-- file. Where an object lies is kept in memory, and ids need no index here.

CREATE TABLE lock (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    salt     BLOB    NOT NULL              -- of a lock key that is derived from a passphrase
) STRICT;

CREATE TABLE keyring (
    id       INTEGER PRIMARY KEY,
    usage    INTEGER NOT NULL,
    made_at  INTEGER NOT NULL,             -- seconds since 1970
    sealed   BLOB    NOT NULL              -- the key, sealed under the lock key or a ring key
) STRICT;

-- Row 0 is the head: its id names this store in everything it seals, its version is the index of
-- the last write, and it seals a keyed digest over all rows and both ends of the audit. An object has
-- an even number, and its payload the odd one behind it. Records of the audit lie among them, those of
-- a batch in a row of kind 255: so they too are appended to the last page, in the same statement.
CREATE TABLE objects (
    row      INTEGER PRIMARY KEY,
    kind     INTEGER NOT NULL,
    id       TEXT    NOT NULL,
    version  INTEGER NOT NULL,
    key_id   INTEGER NOT NULL,             -- the key it is sealed with
    sealed   BLOB    NOT NULL,
    data_key BLOB                          -- of an object with a payload: the payload's key, sealed
) STRICT;

-- A watched mailbox. Its identity is the address; everything else may change with the configuration.
CREATE TABLE mailbox (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    -- In lower case, since addresses are compared without regard to case.
    address         TEXT    NOT NULL UNIQUE,
    -- The label, kept here for the views.
    name            TEXT    NOT NULL,
    project         TEXT    NOT NULL,
    -- Whether the configuration still has it; rows of former mailboxes keep the ledger readable.
    is_configured   INTEGER NOT NULL DEFAULT 1,
    -- What the worker last said of itself, for `status` in another process.
    state           TEXT    NOT NULL DEFAULT 'stopped',
    state_since     INTEGER NOT NULL,
    last_check_at   INTEGER,
    last_message_at INTEGER,
    -- Messages on the server that have no final ledger row yet.
    backlog         INTEGER NOT NULL DEFAULT 0,
    error_code      TEXT,
    error_summary   TEXT,
    error_remedy    TEXT
) STRICT;

-- A folder as it was last listed. A row is there once the first listing has been recorded as a whole:
-- `start` holds only until then.
CREATE TABLE folder (
    mailbox     INTEGER NOT NULL REFERENCES mailbox (id),
    name        TEXT    NOT NULL,
    -- When this changes, the folder is listed and matched anew.
    uidvalidity INTEGER NOT NULL,
    -- Highest UID that the first listing saw: mail up to here is never acknowledged.
    first_uid   INTEGER NOT NULL,
    listed_at   INTEGER NOT NULL,
    PRIMARY KEY (mailbox, name)
) STRICT;

-- The daemon that runs, or ran last: what `status` shows of it. At most one row.
CREATE TABLE daemon (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    pid        INTEGER NOT NULL,
    started_at INTEGER NOT NULL
) STRICT;

-- The ledger: one row for every message ever seen, and what became of it.
CREATE TABLE message (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    mailbox       INTEGER NOT NULL REFERENCES mailbox (id),
    source        TEXT    NOT NULL CHECK (source IN ('imap', 'pop3', 'file', 'pipe')),
    remote_id     TEXT    NOT NULL,
    -- Only of IMAP.
    folder        TEXT,
    uidvalidity   INTEGER,
    uid           INTEGER,
    -- EMAILID or X-GM-MSGID: survives a move and a changed UIDVALIDITY.
    server_id     TEXT,
    message_id    TEXT,
    -- Of the bytes as fetched; absent where nothing was fetched.
    sha256        BLOB,
    -- Of Message-ID, Date, From, Subject and decoded contents, for servers that change stored bytes.
    fingerprint   BLOB,
    size          INTEGER NOT NULL,
    class         TEXT,
    -- Null until final.
    verdict       TEXT,
    reason        TEXT,
    issue         INTEGER REFERENCES issue (id),
    comment       INTEGER REFERENCES comment (id),
    -- The row that this one is a duplicate of.
    original      INTEGER REFERENCES message (id),
    received_at   INTEGER,
    ingested_at   INTEGER NOT NULL,
    -- What is still owed on the server.
    server_action TEXT    NOT NULL DEFAULT 'none' CHECK (server_action IN ('none', 'pending', 'done')),
    -- Why it was decided so, as JSON: class, thread, trim, decision.
    trace         TEXT
) STRICT;
-- A place has one row, whatever happens.
CREATE UNIQUE INDEX message_place ON message (mailbox, folder, uidvalidity, uid) WHERE uid IS NOT NULL;
CREATE INDEX message_remote ON message (mailbox, remote_id) WHERE uid IS NULL;
CREATE INDEX message_sha256 ON message (sha256) WHERE sha256 IS NOT NULL;
CREATE INDEX message_fingerprint ON message (fingerprint) WHERE fingerprint IS NOT NULL;
CREATE INDEX message_server_id ON message (mailbox, server_id) WHERE server_id IS NOT NULL;
CREATE INDEX message_message_id ON message (message_id) WHERE message_id IS NOT NULL;
CREATE INDEX message_issue ON message (issue) WHERE issue IS NOT NULL;
CREATE INDEX message_verdict ON message (mailbox, verdict);
CREATE INDEX message_owed ON message (mailbox, folder) WHERE server_action = 'pending';
-- Mail that the first listing left out is known by these when its UID changes: it was never read.
CREATE INDEX message_before_start ON message (mailbox, received_at, size) WHERE reason = 'before-start';

-- The original bytes, until retention ends; apart from the ledger so that its pages stay small.
CREATE TABLE original (
    message INTEGER PRIMARY KEY REFERENCES message (id),
    -- Zstandard frame.
    bytes   BLOB NOT NULL
) STRICT;

-- Deaths of the process while it parsed a message; gone once the message has its row.
CREATE TABLE attempt (
    mailbox   INTEGER NOT NULL REFERENCES mailbox (id),
    remote_id TEXT    NOT NULL,
    deaths    INTEGER NOT NULL,
    PRIMARY KEY (mailbox, remote_id)
) STRICT, WITHOUT ROWID;

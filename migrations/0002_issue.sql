-- A project exists from its first issue on; the number of the last issue is counted here, so that
-- numbers have no gaps and are never given twice.
CREATE TABLE project (
    key         TEXT    PRIMARY KEY,
    last_number INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE issue (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    project            TEXT    NOT NULL REFERENCES project (key),
    number             INTEGER NOT NULL,
    state              TEXT    NOT NULL CHECK (state IN ('open', 'closed')),
    summary            TEXT    NOT NULL,
    description        TEXT    NOT NULL,
    -- The quoted part of the first mail, kept apart.
    description_elided TEXT,
    -- The signature of the first mail, kept apart.
    signature          TEXT,
    reporter_name      TEXT,
    reporter_address   TEXT,
    created_at         INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL,
    -- Where replies go once it was merged.
    merged_into        INTEGER REFERENCES issue (id),
    UNIQUE (project, number)
) STRICT;

CREATE TABLE comment (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    issue          INTEGER NOT NULL REFERENCES issue (id),
    -- The ledger row that it came by; absent for a comment made by command.
    message        INTEGER,
    author_name    TEXT,
    author_address TEXT,
    -- How far the sender is proven: authenticated, failed, unverified, local.
    trust          TEXT    NOT NULL,
    body           TEXT    NOT NULL,
    elided         TEXT,
    signature      TEXT,
    created_at     INTEGER NOT NULL
) STRICT;
CREATE INDEX comment_issue ON comment (issue, id);

-- What happened to an issue and is no comment: bounces, receipts, closing, merging.
CREATE TABLE event (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    issue   INTEGER NOT NULL REFERENCES issue (id),
    kind    TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    message INTEGER,
    detail  TEXT
) STRICT;
CREATE INDEX event_issue ON event (issue, id);

-- Who takes part in an issue; decides who may comment on it.
CREATE TABLE participant (
    issue   INTEGER NOT NULL REFERENCES issue (id),
    -- In lower case.
    address TEXT    NOT NULL,
    name    TEXT,
    -- Whether the person asked, or was asked by policy, to be told.
    is_watcher INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (issue, address)
) STRICT, WITHOUT ROWID;
CREATE INDEX participant_address ON participant (address);

-- Issues that belong together; each link stands in both directions.
CREATE TABLE link (
    issue INTEGER NOT NULL REFERENCES issue (id),
    other INTEGER NOT NULL REFERENCES issue (id),
    kind  TEXT    NOT NULL,
    PRIMARY KEY (issue, other, kind)
) STRICT, WITHOUT ROWID;

-- The Message-IDs by which replies find their issue: of the mails that came, and of those that we sent.
CREATE TABLE carrier (
    -- Normalized: domain in lower case, without angle brackets.
    message_id TEXT    NOT NULL,
    issue      INTEGER NOT NULL REFERENCES issue (id),
    PRIMARY KEY (message_id, issue)
) STRICT, WITHOUT ROWID;

-- The bytes of attachments, once for each content.
CREATE TABLE content (
    sha256 BLOB    PRIMARY KEY,
    size   INTEGER NOT NULL,
    -- Zstandard frame.
    bytes  BLOB    NOT NULL
) STRICT;

CREATE TABLE attachment (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    issue      INTEGER NOT NULL REFERENCES issue (id),
    -- The comment that it came with; absent where it came with the first mail.
    comment    INTEGER REFERENCES comment (id),
    sha256     BLOB    NOT NULL REFERENCES content (sha256),
    filename   TEXT,
    media_type TEXT    NOT NULL,
    is_inline  INTEGER NOT NULL,
    content_id TEXT
) STRICT;
CREATE INDEX attachment_issue ON attachment (issue, id);
CREATE INDEX attachment_content ON attachment (sha256);

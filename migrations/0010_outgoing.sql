-- What is to be sent, in the transaction that gave the reason: one row is one delivery to one target.
CREATE TABLE outgoing (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    channel     TEXT    NOT NULL CHECK (channel IN ('mail', 'webhook', 'command')),
    kind        TEXT    NOT NULL CHECK (kind IN ('acknowledgement', 'reply', 'alert', 'event')),
    -- Name of the smtp server, URL of the webhook; empty for the alert command.
    target      TEXT    NOT NULL,
    -- What goes to one target in one lane keeps its order: an issue's key, or empty where order is of no use.
    lane        TEXT    NOT NULL DEFAULT '',
    -- The same thing is queued once, whatever happens: a second row with this text is refused.
    once        TEXT    NOT NULL UNIQUE,
    -- The issue that it is about, so that erasing finds it.
    issue       INTEGER REFERENCES issue (id),
    -- What is sent, as JSON; empty once it was erased.
    payload     TEXT    NOT NULL,
    state       TEXT    NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'sending', 'sent', 'failed', 'unknown')),
    -- Tries begun.
    attempts    INTEGER NOT NULL DEFAULT 0,
    next_try_at INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    finished_at INTEGER,
    -- Of the last try: what the receiver said, or what went wrong.
    code        TEXT,
    summary     TEXT
) STRICT;
CREATE INDEX outgoing_open ON outgoing (next_try_at) WHERE state IN ('queued', 'sending');
CREATE INDEX outgoing_lane ON outgoing (target, lane, id) WHERE state IN ('queued', 'sending');
CREATE INDEX outgoing_issue ON outgoing (issue) WHERE issue IS NOT NULL;
CREATE INDEX outgoing_state ON outgoing (state, created_at);
-- What is over, until its payload is taken away.
CREATE INDEX outgoing_kept ON outgoing (finished_at) WHERE finished_at IS NOT NULL AND payload <> '';

-- The mails that we sent, by the Message-ID that we gave them: by it an answer, a bounce and our own mail are known.
CREATE TABLE sent (
    -- Without angle brackets, as `carrier` has it.
    message_id TEXT    PRIMARY KEY,
    outgoing   INTEGER NOT NULL REFERENCES outgoing (id),
    issue      INTEGER REFERENCES issue (id),
    -- In lower case.
    recipient  TEXT    NOT NULL,
    -- The mailbox for which it answered by itself, whose budget it counts against; absent of what a person wrote.
    mailbox    INTEGER REFERENCES mailbox (id),
    at         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sent_recipient ON sent (recipient, at);
CREATE INDEX sent_outgoing ON sent (outgoing);
CREATE INDEX sent_mailbox ON sent (mailbox, at) WHERE mailbox IS NOT NULL;

-- The keys that the marks in our mails are made with: the newest signs, the one before it still verifies. In clear,
-- since they open nothing but what stands beside them, and go into every copy, so that answers find back after a restore.
CREATE TABLE signing_key (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    key        BLOB    NOT NULL CHECK (length(key) = 32),
    created_at INTEGER NOT NULL
) STRICT;

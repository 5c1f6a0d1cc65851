-- What a person must know or do. An alert that is over stays, with `resolved_at`.
CREATE TABLE alert (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    kind            TEXT    NOT NULL,
    severity        TEXT    NOT NULL,
    subject         TEXT    NOT NULL,
    -- Whose grant, where the subject is an integration; else empty.
    login           TEXT    NOT NULL DEFAULT '',
    code            TEXT    NOT NULL,
    summary         TEXT    NOT NULL,
    remedy          TEXT    NOT NULL,
    since           INTEGER NOT NULL,
    last_seen       INTEGER NOT NULL,
    -- How often it was found.
    count           INTEGER NOT NULL DEFAULT 1,
    -- Reminders told so far.
    reminders       INTEGER NOT NULL DEFAULT 0,
    acknowledged_at INTEGER,
    resolved_at     INTEGER
) STRICT;
-- One open alert for a kind and subject (and login).
CREATE UNIQUE INDEX alert_open ON alert (kind, subject, login) WHERE resolved_at IS NULL;

-- One row for each sign-in of a person: how the former ones ended teaches when the present one will.
CREATE TABLE sign_in (
    -- The row of "grant".
    grant_id INTEGER NOT NULL REFERENCES "grant" (id),
    began_at INTEGER NOT NULL,
    -- When the provider first refused its refresh token.
    ended_at INTEGER,
    -- The provider's code for that.
    code     TEXT,
    -- The life of such a sign-in in seconds, where the provider's answer stated it.
    life     INTEGER,
    PRIMARY KEY (grant_id, began_at)
) STRICT, WITHOUT ROWID;
-- Google keeps a refresh token as it is, so that its age is that of the sign-in.
INSERT INTO sign_in (grant_id, began_at)
    SELECT id, refresh_token_issued_at FROM "grant"
    WHERE refresh_token IS NOT NULL AND refresh_token_issued_at IS NOT NULL
      AND token_endpoint = 'https://oauth2.googleapis.com/token';

-- Since when messages wait without a break; null where none does.
ALTER TABLE mailbox ADD COLUMN backlog_since INTEGER;

-- How often messages of a mailbox came to a verdict. It only grows, as a counter must, and spares counting the ledger.
CREATE TABLE verdict_count (
    mailbox INTEGER NOT NULL REFERENCES mailbox (id),
    verdict TEXT    NOT NULL,
    count   INTEGER NOT NULL,
    PRIMARY KEY (mailbox, verdict)
) STRICT, WITHOUT ROWID;
INSERT INTO verdict_count (mailbox, verdict, count)
    SELECT mailbox, verdict, count(*) FROM message
    WHERE verdict IS NOT NULL AND reason IS NOT 'before-start'
    GROUP BY mailbox, verdict;
-- Mail from before the start was never taken. Two statements, since a conflict clause of the statement that fires a
-- trigger overrides those within it.
CREATE TRIGGER message_counted AFTER INSERT ON message
WHEN NEW.verdict IS NOT NULL AND NEW.reason IS NOT 'before-start'
BEGIN
    INSERT INTO verdict_count (mailbox, verdict, count)
        SELECT NEW.mailbox, NEW.verdict, 0
        WHERE NOT EXISTS (SELECT 1 FROM verdict_count WHERE mailbox = NEW.mailbox AND verdict = NEW.verdict);
    UPDATE verdict_count SET count = count + 1 WHERE mailbox = NEW.mailbox AND verdict = NEW.verdict;
END;
CREATE TRIGGER message_recounted AFTER UPDATE OF verdict ON message
WHEN NEW.verdict IS NOT NULL AND NEW.verdict IS NOT OLD.verdict
BEGIN
    INSERT INTO verdict_count (mailbox, verdict, count)
        SELECT NEW.mailbox, NEW.verdict, 0
        WHERE NOT EXISTS (SELECT 1 FROM verdict_count WHERE mailbox = NEW.mailbox AND verdict = NEW.verdict);
    UPDATE verdict_count SET count = count + 1 WHERE mailbox = NEW.mailbox AND verdict = NEW.verdict;
END;

-- The frames of large mail after the first one, so that its bytes are never in memory as a whole.
CREATE TABLE original_more (
    message INTEGER NOT NULL REFERENCES original (message) ON DELETE CASCADE,
    -- From 1 on; the frame in `original` is 0.
    number  INTEGER NOT NULL,
    bytes   BLOB    NOT NULL,
    PRIMARY KEY (message, number)
) STRICT;

CREATE TABLE content_more (
    sha256 BLOB    NOT NULL REFERENCES content (sha256) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    bytes  BLOB    NOT NULL,
    PRIMARY KEY (sha256, number)
) STRICT;

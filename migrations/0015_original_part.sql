-- Attachments that stand in an original message as base64 in lines of one width: their bytes are kept once, as content,
-- and the text is made again from them.
CREATE TABLE original_part (
    message INTEGER NOT NULL REFERENCES original (message) ON DELETE CASCADE,
    -- From 0 on, in the order of the message.
    number  INTEGER NOT NULL,
    -- Where it belongs in the unpacked bytes of the original.
    place   INTEGER NOT NULL,
    sha256  BLOB    NOT NULL REFERENCES content (sha256),
    -- Characters of a line.
    width   INTEGER NOT NULL,
    -- Whether lines end with CR LF, else with LF.
    has_cr  INTEGER NOT NULL,
    PRIMARY KEY (message, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX original_part_content ON original_part (sha256);

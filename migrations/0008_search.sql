-- Words of issues and comments. The index refers to the texts where they stand (external content) and is kept in
-- step by the triggers below; nothing else writes to it.
CREATE VIRTUAL TABLE issue_text USING fts5 (
    summary, description, description_elided,
    content = 'issue', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2'
);
CREATE VIRTUAL TABLE comment_text USING fts5 (
    body, elided,
    content = 'comment', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2'
);

-- What is erased leaves the index at once, not when its segments are next merged.
INSERT INTO issue_text (issue_text, rank) VALUES ('secure-delete', 1);
INSERT INTO comment_text (comment_text, rank) VALUES ('secure-delete', 1);
-- What came before this migration.
INSERT INTO issue_text (issue_text) VALUES ('rebuild');
INSERT INTO comment_text (comment_text) VALUES ('rebuild');

CREATE TRIGGER issue_text_insert AFTER INSERT ON issue BEGIN
    INSERT INTO issue_text (rowid, summary, description, description_elided)
    VALUES (new.id, new.summary, new.description, new.description_elided);
END;
CREATE TRIGGER issue_text_delete AFTER DELETE ON issue BEGIN
    INSERT INTO issue_text (issue_text, rowid, summary, description, description_elided)
    VALUES ('delete', old.id, old.summary, old.description, old.description_elided);
END;
CREATE TRIGGER issue_text_update AFTER UPDATE OF summary, description, description_elided ON issue BEGIN
    INSERT INTO issue_text (issue_text, rowid, summary, description, description_elided)
    VALUES ('delete', old.id, old.summary, old.description, old.description_elided);
    INSERT INTO issue_text (rowid, summary, description, description_elided)
    VALUES (new.id, new.summary, new.description, new.description_elided);
END;

CREATE TRIGGER comment_text_insert AFTER INSERT ON comment BEGIN
    INSERT INTO comment_text (rowid, body, elided) VALUES (new.id, new.body, new.elided);
END;
CREATE TRIGGER comment_text_delete AFTER DELETE ON comment BEGIN
    INSERT INTO comment_text (comment_text, rowid, body, elided) VALUES ('delete', old.id, old.body, old.elided);
END;
CREATE TRIGGER comment_text_update AFTER UPDATE OF body, elided ON comment BEGIN
    INSERT INTO comment_text (comment_text, rowid, body, elided) VALUES ('delete', old.id, old.body, old.elided);
    INSERT INTO comment_text (rowid, body, elided) VALUES (new.id, new.body, new.elided);
END;

-- The issue whose text a comment repeats since that one was merged: erasing it erases the comment, too.
ALTER TABLE comment ADD COLUMN merged_from INTEGER REFERENCES issue (id);
CREATE INDEX comment_merged_from ON comment (merged_from) WHERE merged_from IS NOT NULL;
-- Which issues were merged into one.
CREATE INDEX issue_merged_into ON issue (merged_into) WHERE merged_into IS NOT NULL;

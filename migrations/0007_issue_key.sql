-- By its key, as commands and readers of the views name an issue. Without it each look-up of `issues.key` reads
-- every issue, and a list of issues reads them once for each.
CREATE INDEX issue_key ON issue (project || '-' || number);

-- The stable outside of the database: names, columns and values are promised, the tables are not.
CREATE VIEW issues AS
SELECT i.id,
       i.project || '-' || i.number AS key,
       i.project,
       i.state,
       i.summary,
       i.reporter_name,
       i.reporter_address,
       strftime('%Y-%m-%dT%H:%M:%SZ', i.created_at, 'unixepoch') AS created_at,
       strftime('%Y-%m-%dT%H:%M:%SZ', i.updated_at, 'unixepoch') AS updated_at,
       (SELECT count(*) FROM comment c WHERE c.issue = i.id) AS comment_count,
       (SELECT count(*) FROM attachment a WHERE a.issue = i.id) AS attachment_count,
       i.description,
       i.description_elided
FROM issue i;

CREATE VIEW comments AS
SELECT c.id,
       i.project || '-' || i.number AS issue,
       c.author_name,
       c.author_address,
       c.trust,
       c.body,
       c.elided,
       strftime('%Y-%m-%dT%H:%M:%SZ', c.created_at, 'unixepoch') AS created_at,
       c.message
FROM comment c JOIN issue i ON i.id = c.issue;

CREATE VIEW attachments AS
SELECT a.id,
       i.project || '-' || i.number AS issue,
       a.comment,
       a.filename,
       a.media_type,
       k.size,
       lower(hex(a.sha256)) AS sha256,
       a.is_inline AS inline
FROM attachment a JOIN issue i ON i.id = a.issue JOIN content k ON k.sha256 = a.sha256;

CREATE VIEW messages AS
SELECT m.id,
       b.name AS mailbox,
       m.source,
       m.remote_id,
       m.folder,
       m.uidvalidity,
       m.uid,
       m.message_id,
       CASE WHEN m.sha256 IS NULL THEN NULL ELSE lower(hex(m.sha256)) END AS sha256,
       m.size,
       m.class,
       m.verdict,
       m.reason,
       CASE WHEN i.id IS NULL THEN NULL ELSE i.project || '-' || i.number END AS issue,
       m.comment,
       strftime('%Y-%m-%dT%H:%M:%SZ', m.received_at, 'unixepoch') AS received_at,
       strftime('%Y-%m-%dT%H:%M:%SZ', m.ingested_at, 'unixepoch') AS ingested_at,
       m.server_action
FROM message m JOIN mailbox b ON b.id = m.mailbox LEFT JOIN issue i ON i.id = m.issue;

-- Counts the rotations of the token key: who seals must have looked since the last one.
ALTER TABLE token_key ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
-- The new key, sealed with the configured one, where that is a credential: until the restart that reads the new one.
ALTER TABLE token_key ADD COLUMN next BLOB;

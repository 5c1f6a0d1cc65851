-- First credentials of a client that its provider has refused while the second were taken: until the first ones
-- change, the second are asked with at once.
CREATE TABLE refused_client (
    client_id      TEXT    NOT NULL,
    token_endpoint TEXT    NOT NULL,
    -- Keyed digest of the secret or certificate that was refused.
    digest         BLOB    NOT NULL,
    -- The provider's own code.
    code           TEXT    NOT NULL,
    refused_at     INTEGER NOT NULL,
    PRIMARY KEY (client_id, token_endpoint)
) STRICT;

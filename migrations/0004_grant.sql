-- The tokens that one login gave one integration.
CREATE TABLE "grant" (
    id                       INTEGER PRIMARY KEY AUTOINCREMENT,
    -- These three are its identity: when one of them changes, the grant is set aside.
    client_id                TEXT    NOT NULL,
    token_endpoint           TEXT    NOT NULL,
    -- In lower case.
    login                    TEXT    NOT NULL,
    -- Label of the integration that used it last.
    integration              TEXT    NOT NULL,
    -- Grows with each change of the tokens; whoever saves must have read the last one.
    generation               INTEGER NOT NULL DEFAULT 0,
    -- Sealed values: nonce and ciphertext, bound to this row and column.
    access_token             BLOB,
    access_token_expires_at  INTEGER,
    -- Set when a mail server refused it before its time, and when that last forced a renewal.
    access_token_rejected    INTEGER NOT NULL DEFAULT 0,
    forced_at                INTEGER,
    refresh_token            BLOB,
    -- Kept until the newer one has worked: an answer can get lost after a rotation.
    previous_refresh_token   BLOB,
    refresh_token_issued_at  INTEGER,
    -- Space-separated.
    scopes                   TEXT,
    refreshed_at             INTEGER,
    -- When it is renewed, or tried again.
    next_refresh_at          INTEGER,
    -- When the provider is expected to end the refresh token, where that is known.
    expected_end_at          INTEGER,
    state                    TEXT    NOT NULL DEFAULT 'pending',
    state_since              INTEGER NOT NULL,
    -- Failed tries in a row.
    failures                 INTEGER NOT NULL DEFAULT 0,
    error_code               TEXT,
    error_summary            TEXT,
    error_remedy             TEXT,
    -- Keyed digest of what was last sent besides tokens: after a change of the configuration no wait holds.
    settings                 BLOB,
    -- The lease: who may talk to the token endpoint about this grant, and until when.
    lease_owner              TEXT,
    lease_until              INTEGER,
    UNIQUE (client_id, token_endpoint, login)
) STRICT;

-- A sign-in that a person has begun. The state parameter is kept as its hash, used once.
CREATE TABLE authorization (
    state_sha256  BLOB    PRIMARY KEY,
    integration   TEXT    NOT NULL,
    login         TEXT    NOT NULL,
    redirect_uri  TEXT    NOT NULL,
    -- Sealed PKCE verifier.
    verifier      BLOB    NOT NULL,
    created_at    INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,
    -- When it came back; it comes back once.
    used_at       INTEGER,
    -- What came of it, for the command that waits: null, 'done' or 'failed'.
    outcome       TEXT,
    detail        TEXT
) STRICT;

-- Discovery documents, so that a restart works while the provider is down.
CREATE TABLE discovery (
    issuer     TEXT    PRIMARY KEY,
    -- The endpoints as JSON.
    endpoints  TEXT    NOT NULL,
    fetched_at INTEGER NOT NULL
) STRICT;

-- Shows whether the configured key is the one that the tokens are sealed with. At most one row.
CREATE TABLE token_key (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    -- A known value, sealed.
    sample BLOB    NOT NULL
) STRICT;

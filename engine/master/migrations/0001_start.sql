-- Times are Unix seconds. Asset ids are 64 bits without a sign, kept as SQLite's integers with one.

CREATE TABLE settings (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

-- AUTOINCREMENT: the number of a removed user, which live tokens may still carry, is never given to another.
CREATE TABLE users (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    username      TEXT NOT NULL UNIQUE,
    role          INTEGER NOT NULL CHECK (role BETWEEN 1 AND 3),
    password_hash TEXT NOT NULL,
    created_at    INTEGER NOT NULL
) STRICT;

-- `login` is common to all tokens that descend from one password. Only hashes are kept.
CREATE TABLE refresh_tokens (
    hash       BLOB NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    user_id    INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    login      BLOB NOT NULL CHECK (length(login) = 16),
    expires_at INTEGER NOT NULL,
    spent_at   INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX refresh_tokens_by_user ON refresh_tokens (user_id);
CREATE INDEX refresh_tokens_by_login ON refresh_tokens (login);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);

CREATE TABLE assets (
    asset        INTEGER NOT NULL PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    content_key  BLOB NOT NULL CHECK (length(content_key) = 16),
    bytes        INTEGER NOT NULL CHECK (bytes >= 0),
    header_hash  BLOB NOT NULL CHECK (length(header_hash) = 32),
    plain_roots  BLOB NOT NULL CHECK (length(plain_roots) % 32 = 0),
    replicas     INTEGER NOT NULL CHECK (replicas >= 0),
    published_at INTEGER NOT NULL
) STRICT;

-- Media servers and the keys that their tickets are sealed under.
CREATE TABLE servers (
    server_id       TEXT NOT NULL PRIMARY KEY,
    address         TEXT NOT NULL,
    key_id          INTEGER NOT NULL,
    key             BLOB NOT NULL CHECK (length(key) = 32),
    previous_key_id INTEGER,
    previous_key    BLOB CHECK (length(previous_key) = 32),
    rotated_at      INTEGER NOT NULL
) STRICT;

-- Assets that a person has removed or replaced: only copies of these may be deleted.
CREATE TABLE removed_assets (
    asset      INTEGER NOT NULL PRIMARY KEY,
    name       TEXT NOT NULL,
    removed_at INTEGER NOT NULL
) STRICT;
CREATE INDEX removed_assets_by_time ON removed_assets (removed_at);

-- `turn` counts the tokens of a login: all but the newest of those that were spent are removed.
ALTER TABLE refresh_tokens ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;

-- Finds which of a user's logins was used least recently.
CREATE INDEX refresh_tokens_by_user_and_use ON refresh_tokens (user_id, spent_at, expires_at);
DROP INDEX refresh_tokens_by_user;

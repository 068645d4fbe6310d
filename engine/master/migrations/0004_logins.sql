-- Finds what of a user's logins is to go: all but the newest tokens of each login, and all but the newest logins.
CREATE INDEX refresh_tokens_by_user_and_use ON refresh_tokens (user_id, spent_at, expires_at);
DROP INDEX refresh_tokens_by_user;

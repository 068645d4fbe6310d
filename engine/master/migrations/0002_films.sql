-- Lengths of the streams 1, 2 and 4, and what the publisher found in the container (a serialized braidcast.v1.Film):
-- NULL for plain bytes, which have none of these streams.

ALTER TABLE assets ADD COLUMN frame_index_bytes     INTEGER NOT NULL DEFAULT 0 CHECK (frame_index_bytes >= 0);
ALTER TABLE assets ADD COLUMN key_frame_index_bytes INTEGER NOT NULL DEFAULT 0 CHECK (key_frame_index_bytes >= 0);
ALTER TABLE assets ADD COLUMN access_unit_bytes     INTEGER NOT NULL DEFAULT 0 CHECK (access_unit_bytes >= 0);
ALTER TABLE assets ADD COLUMN film                  BLOB;

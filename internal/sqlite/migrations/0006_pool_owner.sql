-- Who owns a pool, until when (nanoseconds), and how many owners there were. Every write of an
-- owner names its epoch.
ALTER TABLE pools ADD COLUMN owner       TEXT    NOT NULL DEFAULT '';
ALTER TABLE pools ADD COLUMN owner_until INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pools ADD COLUMN epoch       INTEGER NOT NULL DEFAULT 0;

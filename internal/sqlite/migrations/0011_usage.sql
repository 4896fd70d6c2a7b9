-- Who began the session: a principal's subject.
ALTER TABLE sandboxes ADD COLUMN claimed_by TEXT NOT NULL DEFAULT '';

-- What sessions have used. Rows outlive those of their sandboxes and pools.
CREATE TABLE usage (
	number         INTEGER PRIMARY KEY AUTOINCREMENT,
	sandbox        TEXT NOT NULL UNIQUE,
	subscription   TEXT NOT NULL,
	resource_group TEXT NOT NULL,
	name           TEXT NOT NULL, -- of the pool
	identifier     TEXT NOT NULL, -- SHA-256 of it
	claimed_by     TEXT NOT NULL,
	began          INTEGER NOT NULL,
	lasted         INTEGER NOT NULL, -- nanoseconds
	ended          INTEGER NOT NULL CHECK (ended IN (0, 1)),
	cpu            INTEGER NOT NULL, -- nanoseconds
	memory         INTEGER NOT NULL, -- byte-seconds
	disk           INTEGER NOT NULL, -- byte-seconds
	sent           INTEGER NOT NULL, -- bytes
	executions     INTEGER NOT NULL,
	epoch          INTEGER NOT NULL, -- of the pool's owner who wrote it
	meter          TEXT NOT NULL,    -- the life of a server that wrote it
	written        INTEGER NOT NULL  -- nanoseconds since that life began
) STRICT;

CREATE INDEX usage_open ON usage (number) WHERE ended = 0;

-- How long each life of a server has gone on, and the time of day then.
CREATE TABLE meters (
	name    TEXT PRIMARY KEY,
	elapsed INTEGER NOT NULL, -- nanoseconds
	at      INTEGER NOT NULL
) STRICT;

-- Times are nanoseconds since 1970 in UTC; 0 is "never".

CREATE TABLE pools (
	key            TEXT PRIMARY KEY CHECK (key <> ''), -- PoolID.Key
	subscription   TEXT NOT NULL,
	resource_group TEXT NOT NULL,
	name           TEXT NOT NULL,
	location       TEXT NOT NULL,
	tags           TEXT NOT NULL CHECK (json_type(tags) IN ('object', 'null')),
	container_type TEXT NOT NULL,
	image          TEXT NOT NULL,
	max_sessions   INTEGER NOT NULL,
	ready_sessions INTEGER NOT NULL,
	cooldown       INTEGER NOT NULL, -- nanoseconds
	network        TEXT NOT NULL,
	cpu            REAL NOT NULL,
	memory         INTEGER NOT NULL,
	pids           INTEGER NOT NULL,
	disk           INTEGER NOT NULL,
	revision       INTEGER NOT NULL,
	state          TEXT NOT NULL CHECK (state IN ('InProgress', 'Succeeded', 'Failed', 'Deleting')),
	problem        TEXT NOT NULL,
	created_at     INTEGER NOT NULL,
	updated_at     INTEGER NOT NULL
) STRICT;

CREATE TABLE sandboxes (
	id           TEXT PRIMARY KEY CHECK (id <> ''),
	pool         TEXT NOT NULL REFERENCES pools (key) ON DELETE RESTRICT,
	revision     INTEGER NOT NULL,
	state        TEXT NOT NULL CHECK (state IN ('starting', 'ready', 'claimed', 'stopping')),
	identifier   TEXT NOT NULL,
	secret       TEXT NOT NULL,
	handle       BLOB,
	reason       TEXT NOT NULL,
	created_at   INTEGER NOT NULL,
	claimed_at   INTEGER NOT NULL,
	last_used_at INTEGER NOT NULL,
	CHECK (state <> 'ready' OR identifier = ''),
	CHECK (state <> 'claimed' OR identifier <> ''),
	CHECK (state NOT IN ('ready', 'claimed') OR handle IS NOT NULL)
) STRICT;

-- One identifier holds one sandbox: the database itself refuses a second.
CREATE UNIQUE INDEX sandboxes_session ON sandboxes (pool, identifier)
	WHERE identifier <> '' AND state IN ('starting', 'claimed');

CREATE INDEX sandboxes_ready ON sandboxes (pool, revision, created_at) WHERE state = 'ready';

CREATE TABLE tokens (
	id                  TEXT PRIMARY KEY CHECK (id <> ''),
	name                TEXT NOT NULL,
	hash                BLOB NOT NULL CHECK (length(hash) = 32), -- SHA-256
	role                TEXT NOT NULL,
	pool_subscription   TEXT NOT NULL,
	pool_resource_group TEXT NOT NULL,
	pool_name           TEXT NOT NULL,
	created_at          INTEGER NOT NULL,
	expires_at          INTEGER NOT NULL
) STRICT;

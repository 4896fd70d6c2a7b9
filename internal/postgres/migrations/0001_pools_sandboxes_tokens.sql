-- Times are nanoseconds since 1970 in UTC; 0 is "never". Keys and identifiers are compared by byte.

CREATE TABLE pools (
	key            TEXT COLLATE "C" PRIMARY KEY CHECK (key <> ''), -- PoolID.Key
	subscription   TEXT NOT NULL,
	resource_group TEXT NOT NULL,
	name           TEXT NOT NULL,
	location       TEXT NOT NULL,
	tags           TEXT NOT NULL, -- a JSON object or null
	spec           TEXT NOT NULL, -- sandpool.Spec as JSON
	max_sessions   BIGINT NOT NULL,
	ready_sessions BIGINT NOT NULL,
	cooldown       BIGINT NOT NULL, -- nanoseconds
	revision       BIGINT NOT NULL,
	template       TEXT NOT NULL,
	image_digest   TEXT NOT NULL,
	state          TEXT NOT NULL CHECK (state IN ('InProgress', 'Succeeded', 'Failed', 'Deleting')),
	problem        TEXT NOT NULL,
	created_at     BIGINT NOT NULL,
	updated_at     BIGINT NOT NULL,
	-- Who owns the pool, until when, and how many owners there were.
	owner          TEXT NOT NULL,
	owner_until    BIGINT NOT NULL,
	epoch          BIGINT NOT NULL
);

CREATE TABLE secrets (
	pool  TEXT COLLATE "C" NOT NULL REFERENCES pools (key) ON DELETE CASCADE,
	name  TEXT COLLATE "C" NOT NULL CHECK (name <> ''),
	value BYTEA NOT NULL,
	PRIMARY KEY (pool, name)
);

CREATE TABLE sandboxes (
	id           TEXT COLLATE "C" PRIMARY KEY CHECK (id <> ''),
	pool         TEXT COLLATE "C" NOT NULL REFERENCES pools (key) ON DELETE RESTRICT,
	revision     BIGINT NOT NULL,
	state        TEXT NOT NULL CHECK (state IN ('starting', 'ready', 'claimed', 'stopping')),
	identifier   TEXT COLLATE "C" NOT NULL,
	secret       TEXT NOT NULL,
	handle       BYTEA,
	reason       TEXT NOT NULL,
	created_at   BIGINT NOT NULL,
	claimed_at   BIGINT NOT NULL,
	last_used_at BIGINT NOT NULL,
	number       BIGSERIAL, -- the order of insertion
	CHECK (state <> 'ready' OR identifier = ''),
	CHECK (state <> 'claimed' OR identifier <> ''),
	CHECK (state NOT IN ('ready', 'claimed') OR handle IS NOT NULL)
);

-- One identifier holds one sandbox: the database itself refuses a second.
CREATE UNIQUE INDEX sandboxes_session ON sandboxes (pool, identifier)
	WHERE identifier <> '' AND state IN ('starting', 'claimed');

CREATE INDEX sandboxes_ready ON sandboxes (pool, revision, created_at, number) WHERE state = 'ready';
CREATE INDEX sandboxes_pool ON sandboxes (pool);

CREATE TABLE tokens (
	id         TEXT COLLATE "C" PRIMARY KEY CHECK (id <> ''),
	name       TEXT NOT NULL,
	hash       BYTEA NOT NULL CHECK (length(hash) = 32), -- SHA-256
	grants     TEXT NOT NULL, -- a JSON array of {"role", "scope"}
	created_at BIGINT NOT NULL,
	expires_at BIGINT NOT NULL
);

-- The functions below are the writes of an owner. Each says what became of it: 'unknown' if there
-- is no such row, 'stale' if the epoch is not the pool's, else what its comment names.

-- claim gives an identifier a sandbox: 'existing', 'ready', 'new', 'full', or 'exists' if there is a
-- sandbox with the new id. again says that an earlier try of this claim may have been committed.
CREATE FUNCTION claim(of_pool TEXT, of_epoch BIGINT, for_identifier TEXT, of_revision BIGINT, most BIGINT,
	at BIGINT, new_id TEXT, new_secret TEXT, again BOOLEAN, OUT outcome TEXT, OUT box sandboxes)
LANGUAGE plpgsql AS $$
DECLARE
	of_pools BIGINT;
	held BIGINT;
BEGIN
	SELECT epoch INTO of_pools FROM pools WHERE key = of_pool FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		outcome := 'unknown';
		RETURN;
	ELSIF of_pools <> of_epoch THEN
		outcome := 'stale';
		RETURN;
	END IF;
	SELECT * INTO box FROM sandboxes WHERE pool = of_pool AND identifier = for_identifier
		AND identifier <> '' AND state IN ('starting', 'claimed');
	IF FOUND THEN
		outcome := CASE
			WHEN again AND box.id = new_id THEN 'new'
			WHEN again AND box.claimed_at = at THEN 'ready'
			ELSE 'existing' END;
		RETURN;
	END IF;
	SELECT count(*) INTO held FROM sandboxes
		WHERE pool = of_pool AND identifier <> '' AND state IN ('starting', 'claimed');
	IF held >= most THEN
		outcome := 'full';
		RETURN;
	END IF;
	UPDATE sandboxes SET state = 'claimed', identifier = for_identifier, claimed_at = at, last_used_at = at
		WHERE id = (SELECT id FROM sandboxes WHERE pool = of_pool AND revision = of_revision AND state = 'ready'
			ORDER BY created_at, number LIMIT 1 FOR NO KEY UPDATE)
		AND state = 'ready' RETURNING * INTO box;
	IF FOUND THEN
		outcome := 'ready';
		RETURN;
	END IF;
	INSERT INTO sandboxes VALUES (new_id, of_pool, of_revision, 'starting', for_identifier, new_secret, NULL, '', at, at, at)
		ON CONFLICT (id) DO NOTHING RETURNING * INTO box;
	outcome := CASE WHEN FOUND THEN 'new' ELSE 'exists' END;
END $$;

-- insert_sandbox inserts a starting sandbox of nobody: 'done' or 'exists'.
CREATE FUNCTION insert_sandbox(new_id TEXT, of_pool TEXT, of_epoch BIGINT, of_revision BIGINT, new_secret TEXT,
	created BIGINT, claimed BIGINT, used BIGINT) RETURNS TEXT
LANGUAGE plpgsql AS $$
DECLARE
	of_pools BIGINT;
BEGIN
	SELECT epoch INTO of_pools FROM pools WHERE key = of_pool FOR SHARE;
	IF NOT FOUND THEN
		RETURN 'unknown';
	ELSIF of_pools <> of_epoch THEN
		RETURN 'stale';
	END IF;
	INSERT INTO sandboxes VALUES (new_id, of_pool, of_revision, 'starting', '', new_secret, NULL, '', created, claimed, used)
		ON CONFLICT (id) DO NOTHING;
	RETURN CASE WHEN FOUND THEN 'done' ELSE 'exists' END;
END $$;

-- fence locks the pool of a sandbox against a change of owner: 'done'.
CREATE FUNCTION fence(of_id TEXT, of_epoch BIGINT) RETURNS TEXT
LANGUAGE plpgsql AS $$
DECLARE
	of_pools BIGINT;
BEGIN
	SELECT epoch INTO of_pools FROM pools
		WHERE key = (SELECT pool FROM sandboxes WHERE id = of_id) FOR SHARE;
	RETURN CASE WHEN NOT FOUND THEN 'unknown' WHEN of_pools <> of_epoch THEN 'stale' ELSE 'done' END;
END $$;

-- start_sandbox records the handle of a starting sandbox: 'done', or 'late' if it has another state.
CREATE FUNCTION start_sandbox(of_id TEXT, of_epoch BIGINT, its_handle BYTEA, at BIGINT, again BOOLEAN,
	OUT outcome TEXT, OUT box sandboxes)
LANGUAGE plpgsql AS $$
BEGIN
	outcome := fence(of_id, of_epoch);
	IF outcome <> 'done' THEN
		RETURN;
	END IF;
	UPDATE sandboxes SET handle = its_handle, last_used_at = at,
		state = CASE identifier WHEN '' THEN 'ready' ELSE 'claimed' END
		WHERE id = of_id AND state = 'starting' RETURNING * INTO box;
	IF FOUND THEN
		RETURN;
	END IF;
	SELECT * INTO box FROM sandboxes WHERE id = of_id;
	outcome := CASE
		WHEN NOT FOUND THEN 'unknown'
		WHEN again AND box.handle = its_handle AND box.state IN ('ready', 'claimed') THEN 'done'
		ELSE 'late' END;
END $$;

-- stop_sandbox moves a sandbox to stopping: 'done', also if it is.
CREATE FUNCTION stop_sandbox(of_id TEXT, of_epoch BIGINT, why TEXT) RETURNS TEXT
LANGUAGE plpgsql AS $$
DECLARE
	outcome TEXT := fence(of_id, of_epoch);
BEGIN
	IF outcome = 'done' THEN
		UPDATE sandboxes SET state = 'stopping', reason = why WHERE id = of_id AND state <> 'stopping';
	END IF;
	RETURN outcome;
END $$;

-- remove_sandbox deletes the row of a sandbox: 'done'.
CREATE FUNCTION remove_sandbox(of_id TEXT, of_epoch BIGINT) RETURNS TEXT
LANGUAGE plpgsql AS $$
DECLARE
	outcome TEXT := fence(of_id, of_epoch);
BEGIN
	IF outcome = 'done' THEN
		DELETE FROM sandboxes WHERE id = of_id;
	END IF;
	RETURN outcome;
END $$;

-- touch moves last_used_at forward, never back, of those whose pools have the epochs.
CREATE FUNCTION touch(ids TEXT[], epochs BIGINT[], times BIGINT[]) RETURNS VOID
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM 1 FROM pools WHERE key IN (SELECT pool FROM sandboxes WHERE id = ANY (ids)) ORDER BY key FOR SHARE;
	UPDATE sandboxes s SET last_used_at = u.at
		FROM (SELECT unnest(ids) AS id, unnest(epochs) AS epoch, unnest(times) AS at) u, pools p
		WHERE s.id = u.id AND p.key = s.pool AND p.epoch = u.epoch AND s.last_used_at < u.at;
END $$;

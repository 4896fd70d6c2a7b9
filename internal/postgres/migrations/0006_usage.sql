-- Who began the session: a principal's subject.
ALTER TABLE sandboxes ADD COLUMN claimed_by TEXT NOT NULL DEFAULT '';

-- claim gives an identifier a sandbox: 'existing', 'ready', 'new', 'full', or 'exists' if there is a
-- sandbox with the new id. again says that an earlier try of this claim may have been committed. The
-- function of this name that knows no who is for servers that ran when the schema was changed.
CREATE FUNCTION claim(of_pool TEXT, of_epoch BIGINT, for_identifier TEXT, of_revision BIGINT, most BIGINT,
	at BIGINT, new_id TEXT, new_secret TEXT, again BOOLEAN, who TEXT,
	OUT outcome TEXT, OUT box sandboxes)
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
	UPDATE sandboxes SET state = 'claimed', identifier = for_identifier, claimed_at = at, last_used_at = at,
			claimed_by = who
		WHERE id = (SELECT id FROM sandboxes WHERE pool = of_pool AND revision = of_revision AND state = 'ready'
			ORDER BY created_at, number LIMIT 1 FOR NO KEY UPDATE)
		AND state = 'ready' RETURNING * INTO box;
	IF FOUND THEN
		outcome := 'ready';
		RETURN;
	END IF;
	INSERT INTO sandboxes (id, pool, revision, state, identifier, secret, handle, reason, created_at, claimed_at,
		last_used_at, claimed_by)
		VALUES (new_id, of_pool, of_revision, 'starting', for_identifier, new_secret, NULL, '', at, at, at, who)
		ON CONFLICT (id) DO NOTHING RETURNING * INTO box;
	outcome := CASE WHEN FOUND THEN 'new' ELSE 'exists' END;
END $$;

-- What sessions have used. Rows outlive those of their sandboxes and pools.
CREATE TABLE usage (
	number         BIGSERIAL PRIMARY KEY,
	sandbox        TEXT COLLATE "C" NOT NULL UNIQUE,
	subscription   TEXT NOT NULL,
	resource_group TEXT NOT NULL,
	name           TEXT NOT NULL, -- of the pool
	identifier     TEXT NOT NULL, -- SHA-256 of it
	claimed_by     TEXT NOT NULL,
	began          BIGINT NOT NULL,
	lasted         BIGINT NOT NULL, -- nanoseconds
	ended          BOOLEAN NOT NULL,
	cpu            BIGINT NOT NULL, -- nanoseconds
	memory         BIGINT NOT NULL, -- byte-seconds
	disk           BIGINT NOT NULL, -- byte-seconds
	sent           BIGINT NOT NULL, -- bytes
	executions     BIGINT NOT NULL,
	epoch          BIGINT NOT NULL, -- of the pool's owner who wrote it
	meter          TEXT NOT NULL,   -- the life of a server that wrote it
	written        BIGINT NOT NULL  -- nanoseconds since that life began
) WITH (fillfactor = 70);

CREATE INDEX usage_open ON usage (number) WHERE NOT ended;

-- How long each life of a server has gone on, and the time of day then.
CREATE TABLE meters (
	name    TEXT COLLATE "C" PRIMARY KEY,
	elapsed BIGINT NOT NULL, -- nanoseconds
	at      BIGINT NOT NULL
) WITH (fillfactor = 50);

-- How many sessions each pool has: its sandboxes that carry an identifier and are not stopping. To
-- count them for each claim would make a claim cost more the more sessions there are.
CREATE TABLE held_sessions (
	pool     TEXT COLLATE "C" PRIMARY KEY REFERENCES pools (key) ON DELETE CASCADE,
	sessions BIGINT NOT NULL
) WITH (fillfactor = 50);

CREATE FUNCTION count_sessions() RETURNS TRIGGER
LANGUAGE plpgsql AS $$
DECLARE
	more BIGINT := 0;
BEGIN
	IF TG_OP <> 'INSERT' AND OLD.identifier <> '' AND OLD.state IN ('starting', 'claimed') THEN
		more := -1;
	END IF;
	IF TG_OP <> 'DELETE' AND NEW.identifier <> '' AND NEW.state IN ('starting', 'claimed') THEN
		more := more + 1;
	END IF;
	IF more <> 0 THEN
		INSERT INTO held_sessions AS h VALUES (coalesce(NEW.pool, OLD.pool), more)
			ON CONFLICT (pool) DO UPDATE SET sessions = h.sessions + more;
	END IF;
	RETURN NULL;
END $$;

CREATE TRIGGER sandboxes_held AFTER INSERT OR DELETE OR UPDATE OF state, identifier ON sandboxes
	FOR EACH ROW EXECUTE FUNCTION count_sessions();

INSERT INTO held_sessions SELECT pool, count(*) FROM sandboxes
	WHERE identifier <> '' AND state IN ('starting', 'claimed') GROUP BY pool;

-- The functions below keep to indexes: a plan that was made when there were few rows, for which
-- reading all is best, lives on in its connection when there are many.

-- claim gives an identifier a sandbox: 'existing', 'ready', 'new', 'full', or 'exists' if there is a
-- sandbox with the new id. again says that an earlier try of this claim may have been committed.
CREATE OR REPLACE FUNCTION claim(of_pool TEXT, of_epoch BIGINT, for_identifier TEXT, of_revision BIGINT, most BIGINT,
	at BIGINT, new_id TEXT, new_secret TEXT, again BOOLEAN, who TEXT,
	OUT outcome TEXT, OUT box sandboxes)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
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
	SELECT h.sessions INTO held FROM held_sessions h WHERE h.pool = of_pool;
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
ALTER FUNCTION insert_sandbox SET enable_seqscan = off;
ALTER FUNCTION fence SET enable_seqscan = off;
ALTER FUNCTION start_sandbox SET enable_seqscan = off;
ALTER FUNCTION stop_sandbox SET enable_seqscan = off;
ALTER FUNCTION remove_sandbox SET enable_seqscan = off;
ALTER FUNCTION touch SET enable_seqscan = off;
ALTER FUNCTION count_sessions SET enable_seqscan = off;

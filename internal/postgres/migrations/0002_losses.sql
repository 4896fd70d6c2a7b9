-- Sessions that were lost and whose callers do not know of it yet.
CREATE TABLE losses (
	pool       TEXT COLLATE "C" NOT NULL REFERENCES pools (key) ON DELETE CASCADE,
	identifier TEXT COLLATE "C" NOT NULL CHECK (identifier <> ''),
	reason     TEXT NOT NULL,
	until      BIGINT NOT NULL,
	PRIMARY KEY (pool, identifier)
);

-- fence_pool locks a pool against a change of owner: 'done'.
CREATE FUNCTION fence_pool(of_pool TEXT, of_epoch BIGINT) RETURNS TEXT
LANGUAGE plpgsql AS $$
DECLARE
	of_pools BIGINT;
BEGIN
	SELECT epoch INTO of_pools FROM pools WHERE key = of_pool FOR SHARE;
	RETURN CASE WHEN NOT FOUND THEN 'unknown' WHEN of_pools <> of_epoch THEN 'stale' ELSE 'done' END;
END $$;

-- mourn keeps a loss, in place of an earlier one, and forgets those whose time has passed: 'done'.
CREATE FUNCTION mourn(of_pool TEXT, of_epoch BIGINT, of_identifier TEXT, why TEXT, ends BIGINT, at BIGINT) RETURNS TEXT
LANGUAGE plpgsql AS $$
DECLARE
	outcome TEXT := fence_pool(of_pool, of_epoch);
BEGIN
	IF outcome = 'done' THEN
		DELETE FROM losses WHERE pool = of_pool AND until <= at;
		INSERT INTO losses VALUES (of_pool, of_identifier, why, ends)
			ON CONFLICT (pool, identifier) DO UPDATE SET reason = why, until = ends;
	END IF;
	RETURN outcome;
END $$;

-- forget_loss forgets the loss of an identifier: 'done', also if there is none.
CREATE FUNCTION forget_loss(of_pool TEXT, of_epoch BIGINT, of_identifier TEXT) RETURNS TEXT
LANGUAGE plpgsql AS $$
DECLARE
	outcome TEXT := fence_pool(of_pool, of_epoch);
BEGIN
	IF outcome = 'done' THEN
		DELETE FROM losses WHERE pool = of_pool AND identifier = of_identifier;
	END IF;
	RETURN outcome;
END $$;

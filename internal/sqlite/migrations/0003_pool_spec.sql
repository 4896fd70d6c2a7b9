-- What a pool's sandboxes are is one JSON document (sandpool.Spec).
ALTER TABLE pools ADD COLUMN spec TEXT NOT NULL DEFAULT '{}' CHECK (json_type(spec) = 'object');

UPDATE pools SET spec = json_object(
	'kind', container_type,
	'image', image,
	'resources', json_object('cpu', cpu, 'memory', memory, 'pids', pids, 'disk', disk),
	'network', json_object('status', network));

ALTER TABLE pools DROP COLUMN container_type;
ALTER TABLE pools DROP COLUMN image;
ALTER TABLE pools DROP COLUMN network;
ALTER TABLE pools DROP COLUMN cpu;
ALTER TABLE pools DROP COLUMN memory;
ALTER TABLE pools DROP COLUMN pids;
ALTER TABLE pools DROP COLUMN disk;

-- The values of secrets are apart from the pools, so that nothing that reads a pool reads them.
CREATE TABLE secrets (
	pool  TEXT NOT NULL REFERENCES pools (key) ON DELETE CASCADE,
	name  TEXT NOT NULL CHECK (name <> ''),
	value TEXT NOT NULL,
	PRIMARY KEY (pool, name)
) STRICT, WITHOUT ROWID;

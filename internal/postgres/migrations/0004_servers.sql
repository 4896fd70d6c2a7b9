-- The servers that share this database. A server that lives changes its beat every second; 0 says
-- that it has left in an orderly way.
CREATE TABLE servers (
	name     TEXT COLLATE "C" PRIMARY KEY CHECK (name <> ''),
	instance TEXT NOT NULL, -- tells servers of one name apart
	address  TEXT NOT NULL, -- host:port for the other servers
	place    TEXT NOT NULL, -- where its sandboxes run
	beat     BIGINT NOT NULL
) WITH (fillfactor = 50);

CREATE SEQUENCE beats;

-- Whether an owner lives is in its server's row.
ALTER TABLE pools DROP COLUMN owner_until;

-- The servers that share this file, which only tests do. A server that lives changes its beat every
-- second; 0 says that it has left in an orderly way.
CREATE TABLE servers (
	name     TEXT PRIMARY KEY CHECK (name <> ''),
	instance TEXT NOT NULL, -- tells servers of one name apart
	address  TEXT NOT NULL, -- host:port for the other servers
	place    TEXT NOT NULL, -- where its sandboxes run
	beat     INTEGER NOT NULL,
	last     INTEGER NOT NULL -- the last beat that was not 0
) STRICT;

-- Whether an owner lives is in its server's row.
ALTER TABLE pools DROP COLUMN owner_until;

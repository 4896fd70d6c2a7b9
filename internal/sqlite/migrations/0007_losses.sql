-- Sessions that were lost and whose callers do not know of it yet.
CREATE TABLE losses (
	pool       TEXT NOT NULL REFERENCES pools (key) ON DELETE CASCADE,
	identifier TEXT NOT NULL CHECK (identifier <> ''),
	reason     TEXT NOT NULL,
	until      INTEGER NOT NULL,
	PRIMARY KEY (pool, identifier)
) STRICT, WITHOUT ROWID;

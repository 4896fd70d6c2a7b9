-- The key that secrets are sealed with; no row as long as they are plain. They are scrubbed when
-- earlier values are in no page of the file any more.
CREATE TABLE sealing (
	one      INTEGER PRIMARY KEY CHECK (one = 1),
	key      TEXT NOT NULL CHECK (key <> ''),
	scrubbed INTEGER NOT NULL
) STRICT;

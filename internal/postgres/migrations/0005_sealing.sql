-- The key that secrets are sealed with; no row as long as they are plain.
CREATE TABLE sealing (
	one INTEGER PRIMARY KEY CHECK (one = 1),
	key TEXT NOT NULL CHECK (key <> '')
);

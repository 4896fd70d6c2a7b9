-- The locations of the pools that a server serves, with commas between them; none means all.
ALTER TABLE servers ADD COLUMN locations TEXT NOT NULL DEFAULT '';

-- The key of what a revision's sandboxes are started from; '' until it is prepared.
ALTER TABLE pools ADD COLUMN template TEXT NOT NULL DEFAULT '';

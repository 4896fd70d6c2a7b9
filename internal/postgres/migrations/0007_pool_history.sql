-- Who made a pool and who changed it last, and when it was settled, as JSON; of older pools it is
-- not known.
ALTER TABLE pools ADD COLUMN history TEXT NOT NULL DEFAULT '{}';

-- What the name of a pool's image meant when its template was prepared; '' until it is.
ALTER TABLE pools ADD COLUMN image_digest TEXT NOT NULL DEFAULT '';

-- The sessions of a principal, which quotas count.
CREATE INDEX sandboxes_principal ON sandboxes (claimed_by)
	WHERE identifier <> '' AND state IN ('starting', 'claimed');

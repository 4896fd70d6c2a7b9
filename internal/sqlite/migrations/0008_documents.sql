-- What the control plane keeps beside pools: resource groups, environments, deployments and the like.
CREATE TABLE documents (
	kind TEXT NOT NULL CHECK (kind <> ''),
	key  TEXT NOT NULL CHECK (key <> ''),
	text TEXT NOT NULL,
	PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;

-- What a token allows: a JSON array of {"role", "scope"}, the scope as sandpool.Scope writes it.
ALTER TABLE tokens ADD COLUMN grants TEXT NOT NULL DEFAULT '[]' CHECK (json_type(grants) = 'array');
UPDATE tokens SET grants = json_array(json_object('role', role, 'scope',
	CASE WHEN pool_subscription = '' AND pool_resource_group = '' AND pool_name = '' THEN '/'
	ELSE '/subscriptions/' || pool_subscription || '/resourceGroups/' || pool_resource_group ||
		'/providers/Microsoft.App/sessionPools/' || pool_name END));
ALTER TABLE tokens DROP COLUMN role;
ALTER TABLE tokens DROP COLUMN pool_subscription;
ALTER TABLE tokens DROP COLUMN pool_resource_group;
ALTER TABLE tokens DROP COLUMN pool_name;

package access

import (
	"context"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
)

// keyPools has pools with keys, and counts how often one is read.
type keyPools struct {
	pools   map[string]sandpool.Pool
	secrets map[string]sandpool.Secret
	reads   int
}

func (k *keyPools) Pool(_ context.Context, id sandpool.PoolID) (sandpool.Pool, error) {
	p, ok := k.pools[id.Name]
	if !ok {
		return p, sandpool.Errorf(sandpool.NotFound, "", "", "no pool")
	}
	return p, nil
}

func (k *keyPools) Secret(
	_ context.Context,
	id sandpool.PoolID,
	_ string,
) (sandpool.Secret, error) {
	k.reads++
	return k.secrets[id.Name], nil
}

func (k *keyPools) put(name, version string, m sandpool.MCP) string {
	key := auth.NewPoolKey()
	k.secrets[name] = key
	k.pools[name] = sandpool.Pool{
		ID:   sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: name},
		Spec: sandpool.Spec{MCP: m, Secrets: map[string]string{sandpool.MCPKey: version}},
	}
	return key.Reveal()
}

// A key opens its own pool, from the moment when it is made until it is rotated, and that pool
// alone.
func TestKeys(t *testing.T) {
	world := &keyPools{pools: map[string]sandpool.Pool{}, secrets: map[string]sandpool.Secret{}}
	keys := NewKeys(world)
	on := sandpool.MCP{Enabled: true}
	one, other := world.put("one", "v1", on), world.put("other", "v1", on)
	off := world.put("off", "v1", sandpool.MCP{})
	disabled := world.put("disabled", "v1", sandpool.MCP{Enabled: true, KeyDisabled: true})
	world.pools["bare"] = sandpool.Pool{Spec: sandpool.Spec{MCP: on}}
	check := func(pool, key string, ok bool) {
		t.Helper()
		c := auth.Credential{
			Kind: auth.APIKey,
			Text: key,
			Pool: sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: pool},
		}
		p, err := keys.Verify(t.Context(), c)
		switch {
		case ok && (err != nil || auth.Allow(p, auth.Execute, c.Pool.Scope()) != nil):
			t.Errorf("%s: %+v, %v", pool, p, err)
		case ok && (auth.Allow(p, auth.Execute, sandpool.PoolID{Subscription: "s",
			ResourceGroup: "g", Name: "x"}.Scope()) == nil ||
			auth.Allow(p, auth.WritePool, c.Pool.Scope()) == nil):
			t.Errorf("%s: its key allows too much: %+v", pool, p)
		case !ok && sandpool.ClassOf(err) != sandpool.Unauthenticated:
			t.Errorf("%s: %+v, %v; want a refusal", pool, p, err)
		}
	}
	for range 3 {
		check("one", one, true)
	}
	if world.reads != 1 {
		t.Errorf("three requests have read the key %d times", world.reads)
	}
	check("other", other, true)
	check("one", other, false)
	check("other", one, false)
	check("one", one+"x", false)
	check("one", "", false)
	check("off", off, false)
	check("disabled", disabled, false)
	check("none", one, false)
	check("bare", "", false)
	rotated := world.put("one", "v2", on)
	check("one", one, false)
	check("one", rotated, true)
}

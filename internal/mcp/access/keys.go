package access

import (
	"context"
	"strings"
	"sync"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
)

// KeyPools is what Keys needs of package pool.
type KeyPools interface {
	// Pool returns a pool.
	Pool(ctx context.Context, id sandpool.PoolID) (sandpool.Pool, error)
	// Secret returns a secret of a pool, without a value if there is none of this name.
	Secret(ctx context.Context, id sandpool.PoolID, name string) (sandpool.Secret, error)
}

// Keys verifies the keys of pools. It keeps those that it has read; a pool names the version of
// its key, so a key that was rotated is refused at once.
type Keys struct {
	pools KeyPools

	mu    sync.Mutex // guards known
	known map[string]knownKey
}

type knownKey struct {
	version string
	secret  sandpool.Secret
}

// maxKnown bounds the keys in memory, of which a pool has one.
const maxKnown = 4096

var _ auth.Verifier = (*Keys)(nil)

// NewKeys returns a Keys.
func NewKeys(pools KeyPools) *Keys { return &Keys{pools: pools, known: map[string]knownKey{}} }

// keySubject is what the subject of a pool's key begins with.
const keySubject = "mcp-key:"

// IsKey reports whether a caller has come with the key of a pool, which many share who know nothing
// of each other.
func IsKey(p auth.Principal) bool { return strings.HasPrefix(p.Subject, keySubject) }

// Recognizes implements auth.Verifier. A key counts at the MCP endpoint of its pool alone.
func (k *Keys) Recognizes(c auth.Credential) bool {
	return auth.ShowsPoolKey(c)
}

// Verify implements auth.Verifier.
func (k *Keys) Verify(ctx context.Context, c auth.Credential) (auth.Principal, error) {
	p, err := k.pools.Pool(ctx, c.Pool)
	switch {
	case err != nil && sandpool.ClassOf(err) == sandpool.NotFound:
		return auth.Principal{}, refused()
	case err != nil:
		return auth.Principal{}, err
	case !p.Spec.MCP.Enabled || p.Spec.MCP.KeyDisabled:
		return auth.Principal{}, refused()
	}
	key, err := k.key(ctx, p)
	if err != nil {
		return auth.Principal{}, &sandpool.Error{
			Class:   sandpool.Unavailable,
			Message: "The server cannot check keys at the moment. Try again.",
			Err:     err,
		}
	}
	if key.IsZero() || !key.Equal(sandpool.NewSecret(c.Text)) {
		return auth.Principal{}, refused()
	}
	return auth.Principal{
		Subject: keySubject + p.ID.Key(),
		Name:    "the MCP key of the session pool " + p.ID.Name,
		Grants:  []sandpool.Grant{{Role: auth.SessionExecutor, Scope: p.ID.Scope()}},
	}, nil
}

// key returns the key of a pool, without a value if it has none.
func (k *Keys) key(ctx context.Context, p sandpool.Pool) (sandpool.Secret, error) {
	version := p.Spec.Secrets[sandpool.MCPKey]
	if version == "" {
		return sandpool.Secret{}, nil
	}
	k.mu.Lock()
	known, ok := k.known[p.ID.Key()]
	k.mu.Unlock()
	if ok && known.version == version {
		return known.secret, nil
	}
	secret, err := k.pools.Secret(ctx, p.ID, sandpool.MCPKey)
	if err != nil {
		return sandpool.Secret{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.known) >= maxKnown {
		clear(k.known)
	}
	k.known[p.ID.Key()] = knownKey{version, secret}
	return secret, nil
}

// refused does not say why: whether a pool exists is not for whoever has no key of it.
func refused() error {
	return sandpool.Errorf(sandpool.Unauthenticated, "InvalidApiKey", "x-ms-apikey",
		"The key is not valid for the MCP endpoint of this pool: it is wrong, of another pool, or "+
			"was rotated, or the pool takes no keys. "+
			"'sandpool pool mcp-key POOL' shows the pool's key.")
}

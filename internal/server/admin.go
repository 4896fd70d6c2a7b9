package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/audit"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/identity"
	"github.com/sandpool/sandpool/internal/pool"
	"github.com/sandpool/sandpool/internal/server/datadir"
)

// adminTokenFile is where the administrator's token is kept, below the data
// directory, readable by its owner alone.
const adminTokenFile = "admin-token"

// adminToken returns the text of the administrator's token, making one if there is none
// or if the one on disk is not in the store (revoked, or another store).
func adminToken(ctx context.Context, store auth.TokenStore, tokens *auth.Tokens,
	dir string) (string, error) {
	path := filepath.Join(dir, adminTokenFile)
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("administrator's token: %w", err)
	}
	if text := strings.TrimSpace(string(b)); text != "" {
		_, err := tokens.Verify(ctx, auth.Credential{Kind: auth.Bearer, Text: text})
		if err == nil {
			return text, nil
		}
		if sandpool.ClassOf(err) != sandpool.Unauthenticated {
			return "", fmt.Errorf("administrator's token: %w", err)
		}
	}
	row, text, err := auth.NewToken("admin", []sandpool.Grant{{Role: auth.Admin}}, time.Time{},
		time.Now())
	if err != nil {
		return "", fmt.Errorf("administrator's token: %w", err)
	}
	// The file comes first: if the process dies between the two, the next start
	// finds a token that the store does not know and makes another, and no
	// administrator's token exists that nobody has.
	if err := datadir.Write(path, text+"\n"); err != nil {
		return "", fmt.Errorf("administrator's token: %w", err)
	}
	if err := store.PutToken(ctx, row); err != nil {
		return "", fmt.Errorf("administrator's token: %w", err)
	}
	return text, nil
}

// forgetEvery is how often role assignments that have ended are looked for. They give nothing since
// their end.
const forgetEvery = time.Minute

// forgetEnded deletes what has ended of what forget knows, until ctx ends.
func (s *Server) forgetEnded(ctx context.Context, forget func(context.Context) (int, error)) {
	tick := time.NewTicker(forgetEvery)
	defer tick.Stop()
	for {
		n, err := forget(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			s.log.Warn("role assignments that have ended are not deleted", "error", err)
		case n > 0:
			s.log.Info("role assignments have ended", "number", n)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// assignmentEnded records the end of a role assignment that nobody has taken back.
func (s *Server) assignmentEnded(a api.RoleAssignment) {
	before, err := json.Marshal(a)
	if err != nil {
		before = nil // it was decoded from JSON
	}
	s.audited.Done(audit.Record{Who: serverSubject, Name: "the server", Action: http.MethodDelete,
		On: a.ID, Code: "RoleAssignmentEnded", Before: before})
}

// serverSubject is who does what nobody has asked for.
const serverSubject = "server:"

// newIdentities makes what gives code in sandboxes tokens of its pool's identity.
func (s *Server) newIdentities() (*identity.Endpoint, error) {
	return identity.New(identity.Options{Pools: ofIdentities{s}, Issuer: ofIdentities{s},
		Assigned: ofIdentities{s},
		Auditor:  ofIdentities{s},
		Failed: func(b sandpool.Sandbox, err error) {
			s.log.Warn("a sandbox has no identity endpoint for a while", "pool", b.Pool.String(),
				"sandbox", b.ID, "error", err)
		}})
}

// ofIdentities is the server as identities see it, whose parts are there when it runs.
type ofIdentities struct{ s *Server }

// Pool implements identity.Pools.
func (o ofIdentities) Pool(ctx context.Context, id sandpool.PoolID) (sandpool.Pool, error) {
	return o.s.manager.Pool(ctx, id)
}

// IssueManaged implements identity.Issuer.
func (o ofIdentities) IssueManaged(p sandpool.Pool, of sandpool.AssignedIdentity,
	audience string) (string, time.Time, error) {
	return o.s.clients.IssueManaged(p, of, audience)
}

// UserAssigned implements identity.Assigned.
func (o ofIdentities) UserAssigned(ctx context.Context, id string) (string, error) {
	return o.s.control.UserAssigned(ctx, id)
}

// Done implements identity.Auditor.
func (o ofIdentities) Done(r audit.Record) { o.s.audited.Done(r) }

// Refused implements identity.Auditor.
func (o ofIdentities) Refused(r audit.Record) { o.s.audited.Refused(r) }

// individual is init, which makes the fresh sandboxes of a code pool unlike each other, with the
// environment of the pool's identity.
func (s *Server) individual(p sandpool.Pool, init func(context.Context, sandpool.Sandbox,
	pool.Dialer) error) func(context.Context, sandpool.Sandbox, pool.Dialer) error {
	if !s.identities.Serves(p) {
		return init
	}
	return func(ctx context.Context, b sandpool.Sandbox, dial pool.Dialer) error {
		return s.within.InitWith(ctx, b, s.identities.Env(b), dial)
	}
}

// rekey seals the secrets of the store with another key, for somebody on this machine.
func (s *Server) rekey(ctx context.Context) (any, error) {
	done, err := s.store.Rekey(ctx, s.member)
	if err != nil {
		s.log.Error("the key of the store's secrets was not changed", "error", err)
		return nil, err
	}
	s.log.Info("the store's secrets are sealed with another key", "from", done.From, "to", done.To)
	s.audited.Done(audit.Record{Who: "local", Name: "somebody on this machine", Action: "POST",
		On: "/store/rekey", Status: http.StatusOK})
	return done, nil
}

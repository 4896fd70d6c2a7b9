package server

import (
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/auth"
)

// TestMay: the answer is what the API would say to whoever shows the token.
func TestMay(t *testing.T) {
	const group = "/subscriptions/s/resourceGroups/g"
	const pool = group + "/providers/Microsoft.App/sessionPools/python"
	const other = group + "/providers/Microsoft.App/sessionPools/other"
	past := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	for _, tt := range []struct {
		grants        []api.Grant
		pool, session string
		may           []auth.Action
		not           []auth.Action
	}{
		{[]api.Grant{{Role: "admin", Scope: "/"}}, pool, "", auth.Actions(), nil},
		{[]api.Grant{{Role: "admin", Scope: "/"}}, "", "", []auth.Action{auth.ManageTokens,
			auth.ReadAudit}, []auth.Action{auth.Execute}},
		{[]api.Grant{{Role: "admin", Scope: "/", ExpiresAt: past}}, pool, "", nil, auth.Actions()},
		{[]api.Grant{{Role: "session-executor", Scope: pool}}, pool, "",
			[]auth.Action{auth.Execute, auth.ReadSessions}, []auth.Action{auth.WritePool,
				auth.DeletePool, auth.ManageTokens}},
		{[]api.Grant{{Role: "session-executor", Scope: pool}}, other, "", nil,
			[]auth.Action{auth.Execute, auth.ReadPool}},
		{[]api.Grant{{Role: "session-executor", Scope: pool + "/identifiers/alice-*"}}, pool, "",
			nil, []auth.Action{auth.Execute}},
		{[]api.Grant{{Role: "session-executor", Scope: pool + "/identifiers/alice-*"}}, pool,
			"alice-1", []auth.Action{auth.Execute}, nil},
		{[]api.Grant{{Role: "session-executor", Scope: pool + "/identifiers/alice-*"}}, pool,
			"bobby-1", nil, []auth.Action{auth.Execute}},
	} {
		got, err := may(api.Token{ID: "t1", Name: "ci", Grants: tt.grants}, tt.pool, tt.session)
		if err != nil {
			t.Errorf("%+v: %v", tt.grants, err)
			continue
		}
		answers := map[string]bool{}
		for _, a := range got {
			answers[a.What] = a.May
			if g := tt.grants[0]; a.May != (len(a.By) == 1 && a.By[0] == g.Role+" in "+g.Scope) {
				t.Errorf("%+v: it may %s (%t) by %q", tt.grants, a.What, a.May, a.By)
			}
			if !a.May && !strings.Contains(a.Why, "role") && !strings.Contains(a.Why, "scope") &&
				!strings.Contains(a.Why, "grant") {
				t.Errorf("%+v: it may not %s: %s", tt.grants, a.What, a.Why)
			}
		}
		for _, a := range tt.may {
			if !answers[string(a)] {
				t.Errorf("%+v on %q %q: it may not %s", tt.grants, tt.pool, tt.session, a)
			}
		}
		for _, a := range tt.not {
			if is, known := answers[string(a)]; is || !known {
				t.Errorf("%+v on %q %q: it may %s", tt.grants, tt.pool, tt.session, a)
			}
		}
	}
	for _, bad := range [][2]string{{"nonsense", ""}, {pool, "x"}, {"", "alice-1"}} {
		if got, err := may(api.Token{}, bad[0], bad[1]); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

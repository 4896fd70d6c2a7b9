package auth

import (
	"slices"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
)

// scopes are those of a table, by the name that it gives them.
func scopes() map[string]sandpool.Scope {
	pool := func(sub, group, name string) sandpool.Scope {
		return sandpool.PoolID{Subscription: sub, ResourceGroup: group, Name: name}.Scope()
	}
	beginning := pool("s", "g", "alpha")
	beginning.Identifier, beginning.Prefix = "tenant-7-", true
	return map[string]sandpool.Scope{
		"everything": {}, "subscription": {Subscription: "s"}, "group": {Subscription: "s",
			ResourceGroup: "g"},
		"alpha": pool("s", "g", "alpha"), "ALPHA": pool("S", "G", "ALPHA"), "beta": pool("s", "g",
			"beta"),
		"other group": pool("s", "g2", "alpha"), "other subscription": pool("s2", "g", "alpha"),
		"alph":       pool("s", "g", "alph"),
		"tenant-7-*": beginning, "tenant-7-a": pool("s", "g", "alpha").Session("tenant-7-a"),
		"tenant-8-a": pool("s", "g", "alpha").Session("tenant-8-a"), "beta's tenant-7-a": pool("s",
			"g", "beta").Session("tenant-7-a"),
	}
}

// TestRoles is the table of what each role may do, in the widest scope.
func TestRoles(t *testing.T) {
	actions := []Action{ListPools, ReadPool, WritePool, DeletePool, ReadStatus, Execute,
		ReadSessions, ManageTokens, ReadHost, ReadMetrics, ReadAudit, AssignRoles, ReadGroup,
		WriteGroup, ReadUsage, "unheard of", ""}
	for role, may := range map[sandpool.Role]string{
		Admin:            "x x x x x x x x x x x x x x x . .",
		PoolContributor:  "x x x x x . . . . . . . x x x . .",
		SessionExecutor:  "x x . . x x x . . . . . x . . . .",
		Reader:           "x x . . x . . . . . . . x . x . .",
		MonitoringReader: ". . . . . . . . . x . . . . . . .",
		"":               ". . . . . . . . . . . . . . . . .",
		"Admin":          ". . . . . . . . . . . . . . . . .", // roles are compared exactly
	} {
		for i, m := range strings.Fields(may) {
			p := Principal{Subject: "token:id1", Name: "ci", Grants: []sandpool.Grant{{Role: role}}}
			on := scopes()["alpha"]
			if actions[i] == ReadMetrics || actions[i] == ReadAudit {
				on = sandpool.Scope{}
			}
			err := Allow(p, actions[i], on)
			if (err == nil) != (m == "x") {
				t.Errorf("role %q, action %q: %v", role, actions[i], err)
			}
			if err != nil && (sandpool.ClassOf(err) != sandpool.Denied ||
				!strings.Contains(err.Error(), string(actions[i])) ||
				!strings.Contains(err.Error(), "id1")) {
				t.Errorf("role %q, action %q: the error does not name both: %v", role, actions[i],
					err)
			}
		}
	}
}

// TestScopes is the table of where a grant holds. An action about the server takes a grant
// of everything, one about a pool a scope that contains it.
func TestScopes(t *testing.T) {
	targets := []string{"everything", "subscription", "group", "alpha", "ALPHA", "beta",
		"other group", "other subscription", "alph", "tenant-7-*", "tenant-7-a", "tenant-8-a",
		"beta's tenant-7-a"}
	for grant, includes := range map[string]string{
		"everything":         ". . . x x x x x x x x x x",
		"subscription":       ". . . x x x x . x x x x x",
		"group":              ". . . x x x . . x x x x x",
		"alpha":              ". . . x x . . . . x x x .",
		"ALPHA":              ". . . x x . . . . x x x .",
		"beta":               ". . . . . x . . . . . . x",
		"other group":        ". . . . . . x . . . . . .",
		"other subscription": ". . . . . . . x . . . . .",
		"tenant-7-*":         ". . . . . . . . . x x . .",
		"tenant-7-a":         ". . . . . . . . . . x . .",
		"tenant-8-a":         ". . . . . . . . . . . x .",
		"beta's tenant-7-a":  ". . . . . . . . . . . . x",
	} {
		p := Principal{Grants: []sandpool.Grant{{Role: Admin, Scope: scopes()[grant]}}}
		for i, in := range strings.Fields(includes) {
			err := Allow(p, Execute, scopes()[targets[i]])
			if (err == nil) != (in == "x") {
				t.Errorf("a grant of %s, %s: %v", grant, targets[i], err)
			}
			if err != nil && strings.Contains(err.Error(), "tenant-") {
				t.Errorf("a grant of %s, %s: the error tells an identifier: %v", grant, targets[i],
					err)
			}
		}
		for _, a := range []Action{ManageTokens, ReadHost} {
			for name, on := range scopes() {
				if err := Allow(p, a, on); (err == nil) != (grant == "everything") {
					t.Errorf("a grant of %s may %s at %s: %v", grant, a, name, err)
				}
			}
		}
	}
}

// TestOwners is the table of where those may give roles who own a scope: in it, and nowhere else.
func TestOwners(t *testing.T) {
	targets := []string{"everything", "subscription", "group", "alpha", "beta", "other group",
		"other subscription"}
	for grant, includes := range map[string]string{
		"everything":   "x x x x x x x",
		"subscription": ". x x x x x .",
		"group":        ". . x x x . .",
		"ALPHA":        ". . . x . . .",
		"tenant-7-*":   ". . . . . . .",
	} {
		p := Principal{Grants: []sandpool.Grant{{Role: Admin, Scope: scopes()[grant]}}}
		for i, in := range strings.Fields(includes) {
			if err := Allow(p, AssignRoles, scopes()[targets[i]]); (err == nil) != (in == "x") {
				t.Errorf("an owner of %s, %s: %v", grant, targets[i], err)
			}
		}
		for _, role := range Roles()[1:] {
			p := Principal{Grants: []sandpool.Grant{{Role: role, Scope: scopes()[grant]}}}
			if Allow(p, AssignRoles, scopes()["alpha"]) == nil {
				t.Errorf("a %s of %s gives roles", role, grant)
			}
		}
	}
}

// TestRemedies: a refusal says with which command the permission is given, and no identifier.
func TestRemedies(t *testing.T) {
	const pool = "/subscriptions/s/resourceGroups/g/providers/Microsoft.App/sessionPools/alpha"
	for _, row := range []struct {
		who    Principal
		action Action
		on     string
		want   string
	}{
		{Principal{Subject: "token:id1"}, DeletePool, "alpha", `'az role assignment create ` +
			`--assignee-object-id id1 --role "Container Apps SessionPools Contributor" --scope ` +
			pool + `', or makes a token that has it with 'sandpool token create NAME --role ` +
			`pool-contributor --scope ` + pool + `'`},
		{Principal{Subject: "token:id1"}, Execute, "tenant-7-a", `--role session-executor --scope ` +
			pool + `'`},
		{Principal{Subject: "token:id1"}, ReadPool, "alpha", `--role "Reader" --scope ` + pool + `'`},
		{Principal{Subject: "token:id1"}, ManageTokens, "alpha", `--role "Owner" --scope /'`},
		{Principal{Subject: "token:id1"}, ReadMetrics, "everything", `--role monitoring-reader --scope /'.`},
		{Principal{Subject: "oidc:https://x#ann"}, WriteGroup, "group", `rule in the server's ` +
			`setting issuers: role pool-contributor, scope /subscriptions/s/resourceGroups/g.`},
		{Principal{Subject: "oidc:https://x#ann", Objects: []string{"o1", "g1"}}, Execute, "alpha",
			`--assignee-object-id o1 --role "Azure ContainerApps Session Executor" --scope ` + pool},
		{Principal{Subject: "mcp-key:p"}, ReadAudit, "everything", `'sandpool token create NAME ` +
			`--role admin --scope /'`},
	} {
		err := Allow(row.who, row.action, scopes()[row.on])
		if err == nil || !strings.Contains(err.Error(), row.want) ||
			strings.Contains(err.Error(), "tenant-7") {
			t.Errorf("%s, %s: %v\nwant %s", row.who.Subject, row.action, err, row.want)
		}
	}
}

// TestAllowSome: what is about some sessions is not refused before they are known.
func TestAllowSome(t *testing.T) {
	p := Principal{Grants: []sandpool.Grant{{Role: SessionExecutor, Scope: scopes()["tenant-7-*"]}}}
	for name, want := range map[string]bool{"alpha": true, "tenant-7-a": true, "beta": false,
		"tenant-8-a": false, "everything": false} {
		if err := AllowSome(p, Execute, scopes()[name]); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := AllowSome(p, WritePool, scopes()["alpha"]); err == nil {
		t.Error("a role permits what it does not")
	}
}

// TestGrantsDoNotMix: a role of one grant does not hold in the scope of another.
func TestGrantsDoNotMix(t *testing.T) {
	p := Principal{Grants: []sandpool.Grant{{Role: PoolContributor},
		{Role: SessionExecutor, Scope: scopes()["alpha"]}}}
	var may []string
	for name, on := range scopes() {
		if Allow(p, Execute, on) == nil {
			may = append(may, name)
		}
	}
	slices.Sort(may)
	if want := []string{"ALPHA", "alpha", "tenant-7-*", "tenant-7-a", "tenant-8-a"}; !slices.Equal(
		may, want) {
		t.Errorf("may execute in %q, want %q", may, want)
	}
	if Allow(p, WritePool, scopes()["beta"]) != nil ||
		Allow(Principal{}, ListPools, sandpool.Scope{}) == nil {
		t.Error("a grant is forgotten, or none is needed")
	}
}

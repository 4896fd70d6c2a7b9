package control

import (
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/auth"
)

// idOf is the id of the token of that text.
func (k *kit) idOf(text string) string {
	k.t.Helper()
	list, err := k.tokens.List(k.t.Context())
	if err != nil {
		k.t.Fatal(err)
	}
	for _, row := range list {
		if strings.Contains(text, row.ID) {
			return row.ID
		}
	}
	k.t.Fatal("no such token")
	return ""
}

// TestAuthors: a resource says who made it and who changed it last. Whoever changes nothing is not
// written down, and nobody can say that it was somebody else.
func TestAuthors(t *testing.T) {
	k := newKit(t, Options{})
	group := sandpool.PoolID{Subscription: "s1", ResourceGroup: "lab"}
	other := k.token(auth.PoolContributor, group)
	root, second := k.idOf(k.admin), k.idOf(other)
	const env = "/subscriptions/s1/resourceGroups/lab/providers/Microsoft.App/managedEnvironments/e1"
	forged := `"systemData":{"createdBy":"ann","createdByType":"User","createdAt":"2001-01-01T00:00:00Z"}`
	for target, c := range map[string]struct{ made, same, changed string }{
		pypool + version: {strings.Replace(azBody, "{", "{"+forged+",", 1), azBody,
			strings.Replace(azBody, ":300", ":900", 1)},
		env + version: {`{` + forged + `,"location":"local","tags":{"a":"b"},"properties":{"x":{"y":1}}}`,
			`{"tags":{"a":"b"},"properties":{"x":{ "y": 1}}}`, `{"tags":{"a":"c"}}`},
	} {
		made := k.do("PUT", target, c.made)
		if made.status >= 300 {
			t.Fatalf("%s", made.body)
		}
		k.wantSystem(made, root, root)
		k.wantSystem(k.want(200, k.as(other, "PUT", target, c.same)), root, root)
		same := k.want(200, k.as(other, "GET", target, ""))
		if d := cmp.Diff(made.pool.SystemData, same.pool.SystemData); d != "" {
			t.Errorf("who changes nothing changes\n%s", d)
		}
		changed := k.want(200, k.as(other, "PUT", target, c.changed))
		k.wantSystem(changed, root, second)
		if changed.pool.SystemData.LastModifiedAt <= made.pool.SystemData.LastModifiedAt {
			t.Errorf("%s changed at %s", target, changed.body)
		}
		k.wantSystem(k.want(200, k.do("PATCH", target, `{"tags":{"z":"z"}}`)), root, root)
		k.wantSystem(k.want(200, k.as(other, "PATCH", target, `{"tags":{"z":"z"}}`)), root, root)
	}
}

func (k *kit) wantSystem(r reply, created, changed string) {
	k.t.Helper()
	got := *r.pool.SystemData
	if got.CreatedAt == "" || got.LastModifiedAt == "" || strings.HasPrefix(got.CreatedAt, "2001") {
		k.t.Errorf("times: %s", r.body)
	}
	got.CreatedAt, got.LastModifiedAt = "", ""
	if d := cmp.Diff(api.SystemData{CreatedBy: created, CreatedByType: "Application",
		LastModifiedBy: changed, LastModifiedByType: "Application"}, got); d != "" {
		k.t.Errorf("%s", d)
	}
}

// TestTimesOfResources: a list of resources has their times for those who ask.
func TestTimesOfResources(t *testing.T) {
	k := newKit(t, Options{})
	made := k.want(201, k.do("PUT", pypool+version, azBody)).pool.SystemData
	for expand, want := range map[string]api.Resource{"": {},
		"createdTime,changedTime,provisioningState": {CreatedTime: made.CreatedAt,
			ChangedTime: made.LastModifiedAt}} {
		r := k.want(200, k.do("GET", "/subscriptions/s1/resources?$expand="+expand, ""))
		var list api.List[api.Resource]
		if err := json.Unmarshal(r.body, &list); err != nil || len(list.Value) != 1 {
			t.Fatalf("%s: %v", r.body, err)
		}
		got := api.Resource{CreatedTime: list.Value[0].CreatedTime,
			ChangedTime: list.Value[0].ChangedTime}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("$expand=%s: %s", expand, d)
		}
	}
}

// TestAuthorsOfAssignments: a role assignment says who gave it and who changed it last, and when,
// as Resource Manager has it; what a request says of that is ignored.
func TestAuthorsOfAssignments(t *testing.T) {
	var now atomic.Int64
	now.Store(1e9)
	k := newKit(t, Options{Now: func() time.Time { return time.Unix(now.Load(), 0) }})
	k.want(201, k.do("PUT", pypool, "{}"))
	other := k.token(auth.Admin, sandpool.PoolID{})
	holder := k.idOf(k.token(auth.MonitoringReader, sandpool.PoolID{}))
	body := func(more string) string {
		return `{"properties":{"principalId":"` + holder + `","roleDefinitionId":` +
			`"0fb8eba5-a2bb-4abe-b1c1-49dfad359bb0","createdBy":"ann","updatedBy":"ann",` +
			`"createdOn":"2001-01-01T00:00:00Z","updatedOn":"2001-01-01T00:00:00Z"` + more + `}}`
	}
	want := func(status int, as, body, changed, on string) {
		t.Helper()
		r := k.want(status, k.as(as, "PUT", pypool+assignmentsOf+"/a1", body))
		again := k.want(200, k.do("GET", pypool+assignmentsOf+"/a1", ""))
		for _, text := range [][]byte{r.body, again.body} {
			var a api.RoleAssignment
			if err := json.Unmarshal(text, &a); err != nil {
				t.Fatal(err)
			}
			p := a.Properties
			got := []string{p.CreatedBy, p.CreatedOn, p.UpdatedBy, p.UpdatedOn}
			if d := cmp.Diff([]string{k.idOf(k.admin), "2001-09-09T01:46:40.0000000Z",
				k.idOf(changed), on}, got); d != "" {
				t.Errorf("%s: %s", body, d)
			}
		}
	}
	want(201, k.admin, body(""), k.admin, "2001-09-09T01:46:40.0000000Z")
	now.Add(60)
	want(200, other, body(""), k.admin, "2001-09-09T01:46:40.0000000Z")
	want(200, other, body(`,"description":"x"`), other, "2001-09-09T01:47:40.0000000Z")
	now.Add(60)
	want(200, k.admin, body(`,"description":"x","sandpool":{"expiresAt":"2002-01-01T00:00:00Z"}`),
		k.admin, "2001-09-09T01:48:40.0000000Z")
}

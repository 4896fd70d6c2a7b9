package storetest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
)

func (s *suite) putPool(name string) sandpool.PoolID {
	s.Helper()
	p := samplePool(name)
	s.create(p, nil)
	return p.ID
}

// me is the owner of the suite's pools, with epoch 1.
const me = "me"

func (s *suite) create(p sandpool.Pool, secrets sandpool.Secrets) {
	s.Helper()
	epoch, err := s.Store.CreatePool(s.Context(), p, secrets, me)
	if err != nil || epoch != 1 {
		s.Fatalf("CreatePool(%s) = %d, %v", p.ID.Name, epoch, err)
	}
}

// samplePool has something in every field; see poolFields.
func samplePool(name string) sandpool.Pool {
	return sandpool.Pool{
		ID:       sandpool.PoolID{Subscription: "Sub", ResourceGroup: "Group", Name: name},
		Location: "westus2", Tags: map[string]string{"owner": "Ann"}, Spec: sampleSpec(),
		MaxSessions: 10, ReadySessions: 3, Cooldown: 5 * time.Minute,
		Revision: 7, Template: "key", ImageDigest: "sha256:1", State: sandpool.Succeeded,
		Problem: "none", CreatedAt: at(0), UpdatedAt: at(1), SettledAt: at(2),
		CreatedBy: sandpool.Author{Name: "id", Kind: sandpool.Application},
		UpdatedBy: sandpool.Author{Name: "ann@example.com", Kind: sandpool.User},
	}
}

func sampleSpec() sandpool.Spec {
	probe := &sandpool.Probe{
		HTTP: sandpool.HTTPProbe{Port: 80, Path: "/up", TLS: true, Host: "app",
			Headers: []sandpool.Header{{Name: "X-Probe", Value: "1"}}},
		TCP: sandpool.TCPProbe{Port: 81}, Exec: []string{"/bin/true"},
		Delay: time.Second, Period: 2 * time.Second, Timeout: 3 * time.Second,
		Failures: 4, Successes: 5, Grace: 6 * time.Second,
	}
	return sandpool.Spec{
		Kind: sandpool.CustomContainer, Image: "registry.example/app:1",
		Resources: sandpool.Resources{CPU: 0.5, Memory: 1 << 30, PIDs: 64, Disk: 1 << 31},
		Network: sandpool.Network{Status: sandpool.EgressEnabled,
			Allow: []string{"*.example.com"}, Deny: []string{"192.0.2.0/24"}, Connections: 64,
			Bandwidth: 1 << 20, Inspect: true, Proxy: true,
			Credentials: []sandpool.Credential{{URL: "https://api.example.com",
				Header: "Authorization", Prefix: "Bearer ", SecretRef: "password",
				Version: "v1"}}},
		WarmStart: sandpool.WarmStart{Mode: sandpool.StartBySnapshot, Hook: "/reseed"},
		Secrets:   map[string]string{"password": "v1"},
		Container: &sandpool.Container{
			Name: "app",
			Registry: sandpool.Registry{Server: "registry.example", Username: "ann",
				PasswordRef: "password"},
			Command: []string{"/app"}, Args: []string{"-v"}, Dir: "/srv",
			Env:     []sandpool.EnvVar{{Name: "A", Value: "1", SecretRef: "password"}},
			Startup: probe, Liveness: probe.Clone(),
		},
		Lifecycle: sandpool.Lifecycle{Type: sandpool.OnContainerExit, MaxAlive: time.Hour},
		Forwarding: sandpool.Forwarding{Port: 80, Ports: []int{81}, KeepAuthorization: true,
			KeepCookies: true,
			Transport:   sandpool.TransportHTTP2, TunnelIdle: time.Hour},
		Identity: sandpool.ManagedIdentity{Principal: "p", InSessions: true,
			Audiences: []string{"a"}, Assigned: []sandpool.AssignedIdentity{{ID: "/i",
				Principal: "q", Client: "c", InSessions: true}}},
		Environment: "/subscriptions/s/env",
		Queue:       &sandpool.Queue{Length: 20, Wait: 10 * time.Second}, EvictIdle: time.Minute,
		Ready: sandpool.ReadyPlan{ForecastMost: 8, Lead: time.Minute,
			Windows: []sandpool.ReadyWindow{{Days: []time.Weekday{time.Monday}, From: 480,
				To: 1080, Zone: "Europe/Berlin", Ready: 5}}},
		MCP:     sandpool.MCP{Enabled: true, KeyDisabled: true},
		History: &sandpool.History{Retention: time.Hour},
	}
}

// zeros finds the fields of v, at any depth, that have nothing in them.
func zeros(v reflect.Value, path string) (found []string) {
	switch {
	case v.IsZero():
		return []string{path}
	case v.Kind() == reflect.Pointer:
		return zeros(v.Elem(), path)
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			found = append(found, zeros(v.Index(i), fmt.Sprintf("%s[%d]", path, i))...)
		}
	case v.Kind() == reflect.Struct && v.Type() != reflect.TypeFor[time.Time]():
		for i := range v.NumField() {
			found = append(found, zeros(v.Field(i), path+"."+v.Type().Field(i).Name)...)
		}
	}
	return found
}

// ofTheMoment are fields of a pool that no store keeps.
var ofTheMoment = []string{"Pool.Cause", "Pool.Notice",
	"Pool.Spec.Network.Credentials[0].Value"}

// poolFields also fails when sandpool.Pool gets a field, however deep, that the sample lacks,
// so that a store cannot forget to keep it.
func poolFields(s *suite) {
	want := samplePool("python")
	for _, path := range zeros(reflect.ValueOf(want), "Pool") {
		if slices.Contains(ofTheMoment, path) {
			continue
		}
		s.Errorf("the sample has no %s: give it one, and keep it in the store", path)
	}
	bare := sandpool.Pool{ID: sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "bare"},
		State: sandpool.InProgress}
	s.create(bare, nil)
	s.wantPools(want, bare)
	want.State, want.Problem, want.Tags, want.Revision = sandpool.Deleting, "", nil, 8
	want.Spec = sandpool.Spec{Kind: sandpool.PythonLTS}
	if err := s.Store.PutPool(s.Context(), want, nil, 1); err != nil {
		s.Fatal(err)
	}
	s.wantPools(want, bare)
}

func poolCase(s *suite) {
	again := samplePool("PYTHON")
	if err := s.Store.PutPool(s.Context(), again, nil, 1); err != nil {
		s.Fatal(err)
	}
	s.wantPools(again)
}

func poolDelete(s *suite) {
	b := s.insert(1)
	if err := s.Store.DeletePool(s.Context(), s.pool,
		1); sandpool.ClassOf(err) != sandpool.Conflict {
		s.Errorf("DeletePool with a sandbox: %v, want class conflict", err)
	}
	s.must(s.Store.Remove(s.Context(), b.ID, 1))
	s.must(s.Store.DeletePool(s.Context(), s.pool, 1))
	s.must(s.Store.DeletePool(s.Context(), s.pool, 1))
	s.wantPools()
}

func poolSecrets(s *suite) {
	other := s.putPool("other")
	p := samplePool("python")
	two := sandpool.Secrets{"a": sandpool.NewSecret("1"), "b": sandpool.NewSecret("")}
	one := sandpool.Secrets{"a": sandpool.NewSecret("2")}
	for _, step := range []struct{ put, want sandpool.Secrets }{
		{nil, sandpool.Secrets{}}, {two, two}, {nil, two}, {one, one},
		{sandpool.Secrets{}, sandpool.Secrets{}}, {two, two},
	} {
		s.must(s.Store.PutPool(s.Context(), p, step.put, 1))
		s.wantSecrets(s.pool, step.want)
		s.wantSecrets(other, sandpool.Secrets{})
	}
	s.must(s.Store.DeletePool(s.Context(), s.pool, 1))
	s.wantSecrets(s.pool, sandpool.Secrets{})
	s.putPool("python")
	s.wantSecrets(s.pool, sandpool.Secrets{})
}

// poolsBetween reads pools by ranges of their keys, as lists do.
func poolsBetween(s *suite) {
	for _, name := range []string{"a", "B", "c", "python2"} {
		s.putPool(name)
	}
	other := samplePool("a")
	other.ID.ResourceGroup = "group2"
	s.create(other, nil)
	in := s.pool.Scope()
	in.Pool = ""
	first, end := in.Keys()
	key := func(name string) string {
		return sandpool.PoolID{Subscription: "Sub", ResourceGroup: "Group", Name: name}.Key()
	}
	for _, row := range []struct {
		from, below string
		limit       int
		want        string
	}{
		{first, end, 10, "a B c python python2"},
		{first, end, 2, "a B"},
		{sandpool.Next(key("b")), end, 2, "c python"},
		{key("b"), key("python"), 10, "B c"},
		{key("python"), sandpool.Next(key("python")), 10, "python"},
		{sandpool.Next(key("python2")), end, 10, ""},
		{key("python"), key("python") + "\x7f", 10, "python python2"},
		{end, first, 10, ""},
		{"/", "0", 10, "a B c python python2 a"},
	} {
		pools, err := s.Store.PoolsBetween(s.Context(), row.from, row.below, row.limit)
		s.must(err)
		var names []string
		for _, p := range pools {
			names = append(names, p.ID.Name)
		}
		if got := strings.Join(names, " "); got != row.want {
			s.Errorf("at most %d from %q to %q: %q, want %q", row.limit, row.from, row.below, got,
				row.want)
		}
	}
	page, err := s.Store.PoolsBetween(s.Context(), key("a"), sandpool.Next(key("a")), 1)
	s.must(err)
	if diff := cmp.Diff([]sandpool.Pool{samplePool("a")}, page); diff != "" {
		s.Errorf("-want +got\n%s", diff)
	}
}

// poolsNamed finds pools by a part of their names, and by no other part of their keys.
func poolsNamed(s *suite) {
	for _, name := range []string{"a", "B-py", "c%", "python2", "sessionpools"} {
		s.putPool(name)
	}
	in := s.pool.Scope()
	in.Pool = ""
	first, end := in.Keys()
	for _, row := range []struct {
		part        string
		look, limit int
		want        string
		looked      int
		last        string
	}{
		{"py", 10, 10, "B-py python python2", 6, "sessionpools"},
		{"py", 10, 2, "B-py python", 6, "sessionpools"},
		{"py", 2, 10, "B-py", 2, "b-py"},
		{"thon2", 10, 10, "python2", 6, "sessionpools"},
		{"%", 10, 10, "c%", 6, "sessionpools"},
		{"_", 10, 10, "", 6, "sessionpools"},
		{"/", 10, 10, "", 6, "sessionpools"},
		{"group", 10, 10, "", 6, "sessionpools"},
		{"sessionpools", 10, 10, "sessionpools", 6, "sessionpools"},
		{"'", 10, 10, "", 6, "sessionpools"},
	} {
		f, err := s.Store.PoolsNamed(s.Context(), first, end, row.part, row.look, row.limit)
		s.must(err)
		var names []string
		for _, p := range f.Pools {
			names = append(names, p.ID.Name)
		}
		if got := strings.Join(names, " "); got != row.want || f.Looked != row.looked ||
			!strings.HasSuffix(f.Last, "/"+row.last) {
			s.Errorf("%q in %d names: %q of %d to %q, want %q of %d to %q", row.part, row.look, got,
				f.Looked, f.Last, row.want, row.looked, row.last)
		}
	}
	f, err := s.Store.PoolsNamed(s.Context(), end, first, "py", 10, 10)
	s.must(err)
	if len(f.Pools) != 0 || f.Looked != 0 || f.Last != "" {
		s.Errorf("in an empty range: %+v", f)
	}
}

func (s *suite) wantSecrets(id sandpool.PoolID, want sandpool.Secrets) {
	s.Helper()
	got, err := s.Store.Secrets(s.Context(), id)
	s.must(err)
	if !got.Equal(want) {
		s.Errorf("Secrets of %s have the names %q, or other values, want %q", id.Name, got.Names(),
			want.Names())
	}
}

func (s *suite) wantPools(want ...sandpool.Pool) {
	s.Helper()
	got, err := s.Store.Pools(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	byKey := func(a, b sandpool.Pool) bool { return a.ID.Key() < b.ID.Key() }
	if diff := cmp.Diff(sorted(want, byKey), got); diff != "" {
		s.Errorf("Pools: -want +got\n%s", diff)
	}
}

package custom_test

import (
	"strings"
	"testing"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
)

// snapshot is a pool of testdata/app by snapshot, with a hook.
func (k *kit) snapshot(t *testing.T, hook string) api.SessionPool {
	t.Helper()
	p := container(k.push(t, "app:1", app(t)))
	p.Properties.Sandpool = &api.SandpoolSettings{WarmStart: "snapshot", WarmStartHook: hook}
	return p
}

// TestHook: the hook is called once in each container that was restored, before anybody reaches it.
func TestHook(t *testing.T) {
	k := newKit(t)
	k.makePool(t, "pool", k.snapshot(t, "/reseed"))
	for _, identifier := range []string{"alice", "bobby", "carol", "david"} {
		if got := k.get(t, "pool", identifier, "/count"); got != "1001" {
			t.Errorf("the first count of %s is %q, want that of a container whose hook was called",
				identifier, got)
		}
	}
	p, err := k.Pool(t.Context(), "pool")
	if err != nil || problem(p) != "" {
		t.Errorf("the pool has a problem: %s, %v", problem(p), err)
	}
	// Without one nothing is called.
	k.makePool(t, "pool", k.snapshot(t, ""))
	if got := k.get(t, "pool", "eliza", "/count"); got != "1" {
		t.Errorf("without a hook the first count is %q", got)
	}
}

// TestHookRefuses: no container whose hook has failed is handed out; the pool boots its containers
// instead, and says why.
func TestHookRefuses(t *testing.T) {
	k := newKit(t)
	k.makePool(t, "pool", k.snapshot(t, "/no-such-hook"))
	if got := k.get(t, "pool", "alice", "/count"); got != "1" {
		t.Errorf("the first count is %q", got)
	}
	p, err := k.Pool(t.Context(), "pool")
	if err != nil || !strings.Contains(problem(p), "/no-such-hook") ||
		!strings.Contains(problem(p), "404") {
		t.Errorf("the pool's problem is %q, %v", problem(p), err)
	}
}

// TestSnapshotOfSecrets: a container whose environment has secrets is in no snapshot.
func TestSnapshotOfSecrets(t *testing.T) {
	k := newKit(t)
	p, secret := k.snapshot(t, ""), "hush-hush-hush"
	p.Properties.Secrets = []api.PoolSecret{{Name: "key", Value: &secret}}
	p.Properties.CustomContainerTemplate.Containers[0].Env =
		[]api.EnvironmentVar{{Name: "KEY", SecretRef: "key"}}
	k.makePool(t, "pool", p)
	if got := k.get(t, "pool", "alice", "/env"); !strings.Contains(got, "KEY="+secret) {
		t.Errorf("the environment lacks the secret: %s", got)
	}
	// What a container has said before its snapshot is not in the log of those that are restored.
	k.wantLines(t, "pool", "alice", client.Logs{}, "the app listens")
}

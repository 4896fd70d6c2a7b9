package sqlite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
)

// firstSchema is how many migrations the first released schema had.
const firstSchema = 2

// A file of the first schema keeps its pools and sandboxes.
func TestMigrate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	var text strings.Builder
	files, err := filepath.Glob("migrations/*.sql")
	if err != nil || len(files) < firstSchema {
		t.Fatalf("migrations: %v, %v", files, err)
	}
	for _, name := range files[:firstSchema] {
		part, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(part)
	}
	fmt.Fprintf(&text, `
		INSERT INTO pools (key, subscription, resource_group, name, location, tags, container_type, image,
			max_sessions, ready_sessions, cooldown, network, cpu, memory, pids, disk, revision, template,
			state, problem, created_at, updated_at)
		VALUES ('%[1]s', 'S', 'g', 'python', 'local', '{"a":"b"}', 'PythonLTS', 'python:3',
			7, 2, 300000000000, 'EgressDisabled', 0.5, 1073741824, 0, 0, 3, 'key', 'Succeeded', '', 5, 6);
		INSERT INTO sandboxes VALUES ('box', '%[1]s', 3, 'claimed', 'ident', 'hush', x'01', '', 7, 8, 9);
		PRAGMA user_version=%[2]d; PRAGMA application_id=0x736e6470;`,
		sandpool.PoolID{Subscription: "S", ResourceGroup: "g", Name: "python"}.Key(), firstSchema)
	if err := run(t.Context(), path, text.String()); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	pools, err := s.Pools(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id := sandpool.PoolID{Subscription: "S", ResourceGroup: "g", Name: "python"}
	want := []sandpool.Pool{{ID: id, Location: "local", Tags: map[string]string{"a": "b"},
		Spec: sandpool.Spec{Kind: sandpool.PythonLTS, Image: "python:3",
			Resources: sandpool.Resources{CPU: 0.5, Memory: 1 << 30},
			Network:   sandpool.Network{Status: sandpool.EgressDisabled}},
		MaxSessions: 7, ReadySessions: 2, Cooldown: 5 * time.Minute, Revision: 3, Template: "key",
		State: sandpool.Succeeded, CreatedAt: time.Unix(0, 5).UTC(), UpdatedAt: time.Unix(0,
			6).UTC()}}
	if diff := cmp.Diff(want, pools); diff != "" {
		t.Errorf("Pools: -want +got\n%s", diff)
	}
	boxes, err := s.Sandboxes(t.Context())
	if err != nil || len(boxes) != 1 || boxes[0].Identifier != "ident" || boxes[0].Pool != id {
		t.Errorf("Sandboxes = %+v, %v", boxes, err)
	}
}

// TestMigrationNumbers holds that each migration's number is its place in the order: a file that
// sorts before one that has been applied would be skipped for ever.
func TestMigrationNumbers(t *testing.T) {
	files, err := filepath.Glob("migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range files {
		if want := fmt.Sprintf("%04d_", i+1); !strings.HasPrefix(filepath.Base(name), want) {
			t.Errorf("%s: its name must begin with %s", name, want)
		}
	}
}

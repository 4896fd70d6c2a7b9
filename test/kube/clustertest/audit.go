package clustertest

import (
	"bufio"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// auditPolicy has the API server write down what was done to pods, and nothing else.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: Metadata
  verbs: [create, delete, patch]
  resources: [{group: "", resources: [pods, pods/status]}]
- level: None
`

// PodLife is what the API server's audit log says of a pod. Times are those at which the API
// server had done what was asked for.
type PodLife struct {
	Name    string
	Created time.Time
	// Running is when the pod was first said to run by KWOK, or the zero time.
	Running time.Time
	// Gone is when the last call that deletes the pod was answered, or the zero time. The node's
	// agent makes that one, when the pod has ended.
	Gone time.Time
}

// audited is a line of the log.
type audited struct {
	StageTimestamp time.Time
	Verb           string
	UserAgent      string
	ObjectRef      struct{ Namespace, Name, Subresource string }
	ResponseStatus struct{ Code int }
}

// Audit returns the pods of a namespace that there ever were, in the order of their creation.
func (c *Cluster) Audit(t testing.TB, namespace string) []*PodLife {
	t.Helper()
	f, err := os.Open(c.path("audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []*PodLife
	lives := map[string]*PodLife{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e audited
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("the audit log has %q: %v", lines.Text(), err)
		}
		name := e.ObjectRef.Name
		if e.ObjectRef.Namespace != namespace || e.ResponseStatus.Code/100 != 2 || name == "" {
			continue
		}
		p := lives[name]
		switch {
		case e.Verb == "create" && e.ObjectRef.Subresource == "":
			p = &PodLife{Name: name, Created: e.StageTimestamp}
			lives[name], all = p, append(all, p)
		case p == nil: // it was there before the log
		case e.Verb == "delete":
			p.Gone = e.StageTimestamp
		case e.Verb == "patch" && p.Running.IsZero() && strings.HasPrefix(e.UserAgent, kwok):
			p.Running = e.StageTimestamp
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(all, func(a, b *PodLife) int { return a.Created.Compare(b.Created) })
	return all
}

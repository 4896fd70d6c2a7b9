package deployment

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/control/tree"
	"github.com/sandpool/sandpool/internal/openapi/openapitest"
	"github.com/sandpool/sandpool/internal/store"
)

// planes is a control plane that keeps what it is sent, and says so only after some looks.
type planes struct {
	mu    sync.Mutex
	kept  map[string]map[string]any
	looks map[string]int
	puts  []string
	// slow is how many looks a pool takes; a pool called "broken" fails.
	slow int
	// lingers is how many looks find a pool that is being deleted.
	lingers int
	// held stops every PUT until it is closed, if it is not nil; with holds, the requests alone for
	// which that is true, and those that are cut off meanwhile are done if they are heard.
	held  chan struct{}
	holds func(method, name string) bool
	heard bool
	// revokes is the name of a pool whose PUT is the last thing that the caller may do.
	revokes string
	revoked bool
}

// holder returns the principal of the caller while it is not revoked.
func (p *planes) holder(id string) (auth.Principal, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if id != "one" || p.revoked {
		return auth.Principal{}, sandpool.Errorf(sandpool.Unauthenticated, "", "", "revoked")
	}
	return auth.Principal{Subject: "token:one", Name: "one",
		Grants: []sandpool.Grant{{Role: auth.Admin}}}, nil
}

func (p *planes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, ok := auth.FromContext(r.Context()); !ok {
		http.Error(w, `{"error":{"code":"NoPrincipal"}}`, http.StatusUnauthorized)
		return
	}
	p.mu.Lock()
	held, holds := p.held, p.holds
	p.mu.Unlock()
	stops := r.Method == http.MethodPut
	if holds != nil {
		stops = holds(r.Method, r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:])
	}
	if held != nil && stops {
		select {
		case <-held:
		case <-r.Context().Done():
			if holds != nil {
				if p.heard {
					p.serve(httptest.NewRecorder(), r)
				}
				http.Error(w, `{"error":{"code":"CutOff"}}`, http.StatusServiceUnavailable)
				return
			}
		}
	}
	p.serve(w, r)
}

func (p *planes) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := strings.ToLower(r.URL.Path)
	name := key[strings.LastIndexByte(key, '/')+1:]
	switch {
	case strings.HasSuffix(key, "/resourcegroups/lab"):
		_, _ = io.WriteString(w, `{"id":"/subscriptions/s1/resourceGroups/lab","location":"here"}`)
		return
	case strings.HasSuffix(key, "/resources"):
		var out []string
		for k := range p.kept {
			out = append(out, fmt.Sprintf(`{"id":%q,"name":"x","type":"Microsoft.App/sessionPools"}`, k))
		}
		fmt.Fprintf(w, `{"value":[%s]}`, strings.Join(out, ","))
		return
	case r.Method == http.MethodDelete && p.kept[key] != nil && p.lingers > 0:
		p.kept[key]["deleting"], p.looks[key] = true, p.lingers
		w.WriteHeader(http.StatusAccepted)
		return
	case r.Method == http.MethodDelete:
		delete(p.kept, key)
		w.WriteHeader(http.StatusNoContent)
		return
	case r.Method == http.MethodPut:
		var body map[string]any
		_ = json.NewDecoder(r.Body).Decode(&body)
		if body["properties"] == nil {
			body["properties"] = map[string]any{}
		}
		p.kept[key], p.looks[key] = body, p.slow
		p.puts = append(p.puts, name)
		p.revoked = p.revoked || p.revokes != "" && name == p.revokes
		if name == "panics" {
			panic("as it was asked to")
		}
		if name == "refused" {
			delete(p.kept, key)
			http.Error(w, `{"error":{"code":"NotLiked","message":"Not this one.","details":[]}}`, http.StatusBadRequest)
			return
		}
	}
	body := p.kept[key]
	if body["deleting"] == true {
		if p.looks[key]--; p.looks[key] < 0 {
			delete(p.kept, key)
			body = nil
		}
	}
	if body == nil {
		http.Error(w, `{"error":{"code":"ResourceNotFound","message":"none"}}`, http.StatusNotFound)
		return
	}
	properties := body["properties"].(map[string]any)
	properties["provisioningState"] = "Succeeded"
	properties["endpoint"] = "https://" + name
	if name == "broken" {
		properties["provisioningState"] = "Failed"
	}
	if body["deleting"] == true {
		properties["provisioningState"] = "Deleting"
	} else if p.looks[key] > 0 {
		p.looks[key]--
		properties["provisioningState"] = "InProgress"
	}
	_ = json.NewEncoder(w).Encode(body)
}

// kit is a served Service.
type kit struct {
	t      *testing.T
	planes *planes
	s      *Service
	docs   store.Documents
	srv    *httptest.Server
	stop   func() // ends Run and waits for it
}

// described holds the answers of all tests to the description.
var described = openapitest.New("Deployments")

func TestMain(m *testing.M) { os.Exit(described.End(m.Run())) }

// TestRoutes: what is routed is described, and what is described is routed.
func TestRoutes(t *testing.T) {
	var patterns []string
	new(Service).Register(func(pattern string, _ handler) { patterns = append(patterns, pattern) })
	for _, fault := range described.Differ(patterns) {
		t.Error(fault)
	}
}

func newKit(t *testing.T, docs store.Documents, p *planes) *kit {
	t.Helper()
	if p.kept == nil {
		p.kept, p.looks = map[string]map[string]any{}, map[string]int{}
	}
	admin, err := p.holder("one")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(slog.New(slog.DiscardHandler), Options{Documents: docs, Poll: time.Millisecond,
		Owner: "me", Holder: func(_ context.Context, id string) (auth.Principal, error) { return p.holder(id) }})
	if err != nil {
		t.Fatal(err)
	}
	respond := &arm.Responder{Log: slog.New(slog.DiscardHandler)}
	mux := http.NewServeMux()
	s.Register(func(pattern string, fn func(http.ResponseWriter, *http.Request) error) {
		mux.Handle(pattern, respond.Handle(fn))
	})
	inner := http.NewServeMux() // nested deployments come back
	inner.Handle("/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/deployments/") {
			respond.Normalise(mux).ServeHTTP(w, r)
			return
		}
		p.ServeHTTP(w, r)
	}))
	s.Through(inner)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	k := &kit{t: t, planes: p, s: s, docs: docs}
	k.srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		respond.Normalise(described.Mux(mux)).ServeHTTP(w,
			r.WithContext(auth.WithPrincipal(r.Context(), admin)))
	}))
	k.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		k.srv.Close()
	})
	t.Cleanup(k.stop)
	return k
}

const deployments = "/subscriptions/s1/resourcegroups/lab/providers/Microsoft.Resources/deployments/"

func (k *kit) do(method, target, body string, want int) (map[string]any, http.Header) {
	k.t.Helper()
	if strings.HasPrefix(target, "/") {
		target = k.srv.URL + target
	}
	r, err := http.NewRequestWithContext(k.t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		k.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		k.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		k.t.Fatalf("%s %s: %d %s, %v; want %d", method, target, resp.StatusCode, text, err, want)
	}
	out := map[string]any{}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &out); err != nil {
			k.t.Fatalf("%s: %v", text, err)
		}
	}
	return out, resp.Header
}

// ends waits for the end of a deployment and returns it.
func (k *kit) ends(name, want string) map[string]any {
	k.t.Helper()
	for {
		got, _ := k.do("GET", deployments+name, "", 200)
		state := got["properties"].(map[string]any)["provisioningState"]
		if state == accepted || state == running {
			continue
		}
		if state != want {
			text, _ := json.Marshal(got)
			k.t.Fatalf("%s ended as %v, want %s: %s", name, state, want, text)
		}
		return got
	}
}

func body(mode, parameters, resources, outputs string) string {
	return fmt.Sprintf(`{"location":"here","tags":{"t":"1"},"properties": {"templateLink":null,"parameters": %s, "mode": %q, template:{"parameters":{"n":{`+
		`"type":"string","defaultValue":"one"},"s":{"type":"securestring","defaultValue":"hush"}},
		"resources":[%s], "outputs":{%s}}}}`, parameters, mode, resources, outputs)
}

func pool(name, more string) string {
	return fmt.Sprintf(`{"type":"Microsoft.App/sessionPools","apiVersion":"2025-07-01","name":%q,`+
		`"location":"here","properties":{"x":1}%s}`, name, more)
}

// TestDeploy: a deployment as az sends it, from validation to its deletion.
func TestDeploy(t *testing.T) {
	k := newKit(t, &tree.Memory{}, &planes{slow: 3})
	text := body("Incremental", `{"n":{"value":"two"}}`,
		pool("[parameters('n')]", `,"dependsOn":["first"]`)+","+pool("first", ""),
		`"e":{"type":"string","value":"[reference(resourceId('Microsoft.App/sessionPools', parameters('n'))).endpoint]"}`)
	got, _ := k.do("POST", deployments+"d/validate?api-version=2025-04-01", text, 200)
	if s, _ := json.Marshal(got); !strings.Contains(string(s), `"validatedResources":[{"id"`) {
		t.Errorf("validate: %s", s)
	}
	got, _ = k.do("POST", deployments+"d/whatIf?api-version=2025-04-01", text, 200)
	if s, _ := json.Marshal(got); strings.Count(string(s), `"changeType":"Create"`) != 2 {
		t.Errorf("what-if: %s", s)
	}
	if len(k.planes.puts) != 0 {
		t.Errorf("validation and what-if have put %v", k.planes.puts)
	}
	_, header := k.do("PUT", deployments+"d?api-version=2025-04-01", text, 201)
	status := header.Get("Azure-AsyncOperation")
	done := k.ends("d", "Succeeded")
	s, _ := json.Marshal(done)
	for _, want := range []string{`"outputs":{"e":{"type":"String","value":"https://two"}}`,
		`"parameters":{"n":{"type":"String","value":"two"},"s":{"type":"SecureString"}}`,
		`"outputResources":[{"id"`} {
		if !strings.Contains(string(s), want) {
			t.Errorf("%s is not in %s", want, s)
		}
	}
	if got := strings.Join(k.planes.puts, " "); got != "first two" {
		t.Errorf("put %s", got)
	}
	if got, _ := k.do("GET", status, "", 200); got["status"] != "Succeeded" {
		t.Errorf("the operation: %v", got)
	}
	ops, _ := k.do("GET", "/subscriptions/s1/resourcegroups/lab/deployments/d/operations", "", 200)
	if s, _ := json.Marshal(ops); strings.Count(string(s), `"provisioningState":"Succeeded"`) != 2 {
		t.Errorf("operations: %s", s)
	}
	docs, err := k.docs.Documents(t.Context(), kind, "")
	if err != nil || len(docs) != 1 || strings.Contains(docs[0].Text, "hush") {
		t.Errorf("kept: %v, %v", docs, err)
	}
	got, _ = k.do("POST", deployments+"d/whatIf", strings.Replace(text, `"x":1`, `"x":2`, 1), 200)
	if s, _ := json.Marshal(got); strings.Count(string(s), "NoChange") != 1 ||
		!strings.Contains(string(s), `"path":"properties.x","propertyChangeType":"Modify"`) {
		t.Errorf("what-if of a change: %s", s)
	}
	if got, _ := k.do("GET", strings.TrimSuffix(deployments, "/"), "", 200); len(got["value"].([]any)) != 1 {
		t.Errorf("the list: %v", got)
	}
	first := ops["value"].([]any)[0].(map[string]any)["operationId"].(string)
	k.do("GET", deployments+"d/operations/"+first, "", 200)
	k.do("GET", deployments+"d/operations/none", "", 404)
	k.do("POST", deployments+"d/exportTemplate", "", 400)
	k.do("HEAD", deployments+"d", "", 204)
	k.do("DELETE", deployments+"d", "", 204)
	k.do("GET", deployments+"d", "", 404)
	k.do("HEAD", deployments+"d", "", 404)
	k.do("GET", deployments+"d/operations", "", 404)
	k.do("GET", deployments+"d/operationStatuses/none", "", 404)
	k.do("POST", deployments+"d/cancel", "", 404)
}

// TestComplete: a complete deployment deletes what is not in its template.
func TestComplete(t *testing.T) {
	k := newKit(t, &tree.Memory{}, &planes{})
	k.do("PUT", deployments+"a", body("Incremental", "{}", pool("a", "")+","+pool("b", ""), ""), 201)
	k.ends("a", "Succeeded")
	text := body("Complete", "{}", pool("b", ""), "")
	got, _ := k.do("POST", deployments+"b/whatIf", text, 200)
	if s, _ := json.Marshal(got); strings.Count(string(s), `"Delete"`) != 1 {
		t.Errorf("what-if: %s", s)
	}
	k.do("PUT", deployments+"b", text, 201)
	k.ends("b", "Succeeded")
	if len(k.planes.kept) != 1 {
		t.Errorf("left: %v", k.planes.kept)
	}
}

// TestCompleteWaits: a complete deployment has ended when nothing is left of what it deletes, and
// can be canceled until then.
func TestCompleteWaits(t *testing.T) {
	p := &planes{lingers: 20}
	k := newKit(t, &tree.Memory{}, p)
	k.do("PUT", deployments+"a", body("Incremental", "{}", pool("a", "")+","+pool("b", "")+","+
		pool("c", ""), ""), 201)
	k.ends("a", "Succeeded")
	k.do("PUT", deployments+"b", body("Complete", "{}", pool("b", ""), ""), 201)
	k.ends("b", "Succeeded")
	k.planes.mu.Lock()
	left := len(k.planes.kept)
	p.lingers = 1 << 30
	k.planes.mu.Unlock()
	if left != 1 {
		t.Errorf("%d pools are left at the end, want 1", left)
	}
	k.do("PUT", deployments+"c", body("Complete", "{}", "", ""), 201)
	for len(k.states("c")) == 0 {
	}
	k.do("POST", deployments+"c/cancel", "", 204)
	k.ends("c", "Canceled")
	if got := k.states("c"); len(got) != 1 || got[0] != "Canceled" {
		t.Errorf("the operations of a canceled one are %q", got)
	}
}

// states are those of a deployment's operations.
func (k *kit) states(name string) (out []string) {
	k.t.Helper()
	got, _ := k.do("GET", deployments+name+"/operations", "", 200)
	for _, op := range got["value"].([]any) {
		out = append(out, op.(map[string]any)["properties"].(map[string]any)["provisioningState"].(string))
	}
	return out
}

// TestFailure: what fails is said, and ends the deployment.
func TestFailure(t *testing.T) {
	k := newKit(t, &tree.Memory{}, &planes{})
	for name, says := range map[string]string{"broken": "ended as Failed", "refused": "Not this one."} {
		k.do("PUT", deployments+name, body("Incremental", "{}", pool(name, "")+","+
			pool("after"+name, fmt.Sprintf(`,"dependsOn":[%q]`, name)), ""), 201)
		if s, _ := json.Marshal(k.ends(name, "Failed")); !strings.Contains(string(s), says) {
			t.Errorf("%s: %s", name, s)
		}
		for _, put := range k.planes.puts {
			if strings.HasPrefix(put, "after") {
				t.Errorf("%s was put", put)
			}
		}
	}
	for text, code := range map[string]string{
		body("Incremental", "{}", `{"type":"Microsoft.Compute/disks","apiVersion":"1","name":"x"}`, ""): "InvalidResourceType",
		body("Incremental", "{}", pool("[listKeys('x')]", ""), ""):                                      "InvalidTemplate",
		body("Sideways", "{}", "", ""):                                                                  "InvalidDeploymentMode",
		`{"properties":{"templateLink":{"uri":"http://x"}}}`:                                            "TemplateLinkNotSupported",
		`{"properties":{}}`: "InvalidTemplate", `{`: "InvalidTemplate", `[]`: "InvalidRequestContent",
	} {
		for _, at := range []string{"POST x/validate", "POST x/whatIf", "PUT x"} {
			method, name, _ := strings.Cut(at, " ")
			got, _ := k.do(method, deployments+name, text, 400)
			if got["error"].(map[string]any)["code"] != code {
				t.Errorf("%s of %s: %v, want %s", at, text, got, code)
			}
		}
	}
	k.do("PUT", deployments+"bad%20name", body("Incremental", "{}", "", ""), 400)
}

// TestNested: a module of Bicep is a deployment within the template, with outputs of its own.
func TestNested(t *testing.T) {
	k := newKit(t, &tree.Memory{}, &planes{slow: 1})
	inner := `{"type":"Microsoft.Resources/deployments","apiVersion":"2025-04-01","name":"inner",` +
		`"properties":{"expressionEvaluationOptions":{"scope":"inner"},"mode":"Incremental",` +
		`"parameters":{"m":{"value":"[parameters('n')]"}},"template":{"parameters":{"m":{"type":"string"}},` +
		`"resources":[` + pool("[parameters('m')]", "") + `],` +
		`"outputs":{"o":{"type":"string","value":"[reference(parameters('m')).endpoint]"}}}}}`
	k.do("PUT", deployments+"outer", body("Incremental", `{"n":{"value":"deep"}}`, inner,
		`"o":{"type":"string","value":"[reference('inner').outputs.o.value]"}`), 201)
	if s, _ := json.Marshal(k.ends("outer", "Succeeded")); !strings.Contains(string(s),
		`"o":{"type":"String","value":"https://deep"}`) {
		t.Errorf("outer: %s", s)
	}
}

// TestRestart: a deployment that the server's end cuts off is run by the next one, unless its
// caller is gone, and while it runs there is no second.
func TestRestart(t *testing.T) {
	docs, p := &tree.Memory{}, &planes{held: make(chan struct{})}
	k := newKit(t, docs, p)
	text := body("Incremental", "{}", pool("a", ""), "")
	k.do("PUT", deployments+"d", text, 201)
	k.do("PUT", deployments+"gone", text, 201)
	k.do("PUT", deployments+"d", text, 409)
	k.do("DELETE", deployments+"d", "", 409)
	k.stop()
	d, err := docs.Document(t.Context(), kind, strings.ToLower(
		"/subscriptions/s1/resourceGroups/lab/providers/Microsoft.Resources/deployments/gone"))
	if err != nil {
		t.Fatal(err)
	}
	d.Text = strings.Replace(d.Text, "token:one", "token:two", 1)
	if err := docs.PutDocument(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	close(p.held)
	k = newKit(t, docs, p)
	k.ends("d", "Succeeded")
	k.ends("gone", "Failed")
	got, _ := k.do("GET", deployments+"d/operations", "", 200)
	if n := len(got["value"].([]any)); n != 1 {
		t.Errorf("%d operations: %v", n, got)
	}
}

// TestCancel: a deployment that is canceled sends nothing more.
func TestCancel(t *testing.T) {
	k := newKit(t, &tree.Memory{}, &planes{slow: 1 << 30})
	k.do("PUT", deployments+"d", body("Incremental", "{}", pool("a", "")+","+pool("b", ""), ""), 201)
	for {
		if got, _ := k.do("GET", deployments+"d/operations", "", 200); len(got["value"].([]any)) > 0 {
			break
		}
		k.planes.mu.Lock()
		n := len(k.planes.puts)
		k.planes.mu.Unlock()
		if n > 0 {
			break
		}
	}
	k.do("POST", deployments+"d/cancel", "", 204)
	k.ends("d", "Canceled")
	k.do("POST", deployments+"d/cancel", "", 409)
	if n := len(k.planes.puts); n != 1 {
		t.Errorf("put %v", k.planes.puts)
	}
}

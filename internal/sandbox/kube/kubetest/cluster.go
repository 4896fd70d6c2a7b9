// Package kubetest is a small cluster for tests of the engine: the part of the Kubernetes API that
// package rest asks, over HTTP, and nodes whose pods are HTTP servers of this process on addresses
// of their own. It does what the documentation says of versions, watches, preconditions and
// deletions, passes the suite of engines, and fails in the ways that a test orders.
package kubetest

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
)

// Fault is what the API server does instead of what it is asked for.
type Fault struct {
	Verb string // "create", "get", "list", "watch", "delete"
	// Status answers with this status and Reason; zero serves the call.
	Status     int
	Reason     string
	Message    string
	RetryAfter int // seconds
	// Lose cuts the connection: after the call was served, if Status is zero.
	Lose bool
}

// Cluster is a cluster. Close ends it.
type Cluster struct {
	server *httptest.Server

	mu       sync.Mutex // guards what follows
	version  uint64
	oldest   uint64 // the events up to this one are forgotten
	events   []event
	news     chan struct{} // closed by the next event
	pods     map[string]*pod
	secrets  map[string]*rest.Secret
	policies map[string]*rest.NetworkPolicy
	daemons  map[string]*rest.DaemonSet
	faults   []Fault
	calls    map[string]int // by verb
	out      bool
	full     string // why no pod is scheduled
	enforced bool   // network policies
	images   map[string]bool
	next     int // the last address given to a pod
	denied   string
	logs     map[string][]line // by the names of pods
	noVolume bool              // of an image
	broken   []int             // after how many bytes the next answers with logs end
	cuts     int               // how often those that were open were ended
	nodes    int
	ready    int
	measured []any
	metered  chan struct{} // what the metrics API waits for; nil for nothing
	closed   bool
	work     sync.WaitGroup
}

type event struct {
	version uint64
	kind    string
	pod     rest.Pod
}

// New returns a cluster that ends with the test.
func New(t *testing.T) *Cluster {
	c := &Cluster{version: 100, news: make(chan struct{}), pods: map[string]*pod{},
		secrets: map[string]*rest.Secret{}, policies: map[string]*rest.NetworkPolicy{},
		daemons: map[string]*rest.DaemonSet{},
		calls:   map[string]int{}, images: map[string]bool{}, logs: map[string][]line{}}
	c.server = httptest.NewUnstartedServer(http.HandlerFunc(c.serve))
	c.server.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that are cut
	c.server.StartTLS()
	t.Cleanup(c.close)
	return c
}

func (c *Cluster) close() {
	c.mu.Lock()
	c.closed = true
	for _, p := range c.pods {
		p.end(137)
	}
	c.wake()
	c.mu.Unlock()
	c.server.CloseClientConnections()
	c.server.Close()
	c.work.Wait()
}

// token is what callers must show.
const token = "kubetest"

// Kubeconfig writes a file by which the cluster is reached, with a namespace, and returns its name.
func (c *Cluster) Kubeconfig(t *testing.T, namespace string) string {
	t.Helper()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.server.Certificate().Raw})
	name := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: test
contexts: [{name: test, context: {cluster: c, user: u, namespace: %s}}]
clusters: [{name: c, cluster: {server: "%s", certificate-authority-data: %s}}]
users: [{name: u, user: {token: %s}}]
`, namespace, c.server.URL, base64.StdEncoding.EncodeToString(ca), token)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// Order has the next call of a verb fail.
func (c *Cluster) Order(f Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, f)
}

// Outage begins or ends a time in which the API server answers nobody. Open watches end.
func (c *Cluster) Outage(on bool) {
	c.mu.Lock()
	c.out = on
	c.mu.Unlock()
	if on {
		c.server.CloseClientConnections()
	}
}

// Compact forgets all events, as etcd does from time to time: watches from before cannot go on.
func (c *Cluster) Compact() {
	c.mu.Lock()
	c.version++
	c.oldest, c.events = c.version, nil
	c.mu.Unlock()
	c.server.CloseClientConnections()
}

// Full has no pod find a node, for a reason, until it is empty.
func (c *Cluster) Full(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.full = why
}

// Enforce says whether anything enforces network policies. Nothing does in a new cluster.
func (c *Cluster) Enforce(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enforced = on
}

// Deny takes a permission away, such as "create secrets", or "create secrets NAMESPACE".
func (c *Cluster) Deny(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.denied = what
}

// review says what a caller may.
func (c *Cluster) review(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Spec struct {
			Of rest.Access `json:"resourceAttributes"`
		} `json:"spec"`
	}
	if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	answer(w, http.StatusCreated, map[string]any{"status": map[string]bool{
		"allowed": ask.Spec.Of.Verb+" "+ask.Spec.Of.Resource != c.denied &&
			ask.Spec.Of.Verb+" "+ask.Spec.Of.Resource+" "+ask.Spec.Of.Namespace != c.denied}})
}

// Missing says that an image cannot be pulled.
func (c *Cluster) Missing(image string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.images[image] = true
}

// Calls is how many calls of a verb there were.
func (c *Cluster) Calls(verb string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[verb]
}

// Pods are the pods there are, by name.
func (c *Cluster) Pods() map[string]rest.Pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]rest.Pod{}
	for name, p := range c.pods {
		out[name] = p.is
	}
	return out
}

// Secrets are the Secrets there are, by name.
func (c *Cluster) Secrets() map[string]*rest.Secret {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.secrets)
}

// Policies are the network policies there are, by namespace/name.
func (c *Cluster) Policies() map[string]*rest.NetworkPolicy {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.policies)
}

// Change changes the status of a pod, as its node or the control plane does.
func (c *Cluster) Change(name string, change func(*rest.Pod)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.pods[name]; p != nil {
		change(&p.is)
		c.tell("MODIFIED", p)
	}
}

// Kill ends a pod's process from outside.
func (c *Cluster) Kill(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.pods[name]; p != nil {
		p.end(137)
	}
}

// Freeze keeps a pod from ending, as one does whose node is away.
func (c *Cluster) Freeze(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.pods[name]; p != nil {
		p.frozen = true
	}
}

// Thaw takes Freeze back.
func (c *Cluster) Thaw(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.pods[name]; p != nil {
		p.frozen = false
	}
}

// tell makes an event of what has become of a pod. The caller holds mu.
func (c *Cluster) tell(kind string, p *pod) {
	c.version++
	p.is.Metadata.ResourceVersion = strconv.FormatUint(c.version, 10)
	c.events = append(c.events, event{c.version, kind, p.is})
	c.wake()
}

// wake tells the watches that there is news. The caller holds mu.
func (c *Cluster) wake() {
	close(c.news)
	c.news = make(chan struct{})
}

// fault takes the first fault that was ordered for a verb.
func (c *Cluster) fault(verb string) (f Fault, out bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[verb]++
	for i, f := range c.faults {
		if f.Verb == verb {
			c.faults = append(c.faults[:i:i], c.faults[i+1:]...)
			return f, c.out
		}
	}
	return Fault{}, c.out
}

func (c *Cluster) serve(w http.ResponseWriter, r *http.Request) {
	verb := map[string]string{http.MethodPost: "create", http.MethodDelete: "delete"}[r.Method]
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	collection := len(parts) > 0 && (parts[len(parts)-1] == "pods")
	switch {
	case verb != "":
	case r.URL.Query().Get("watch") != "":
		verb = "watch"
	case collection:
		verb = "list"
	default:
		verb = "get"
	}
	if r.Header.Get("Authorization") != "Bearer "+token {
		refuse(w, http.StatusUnauthorized, "Unauthorized", "Unauthorized")
		return
	}
	f, out := c.fault(verb)
	if out || f.Lose && f.Status != 0 {
		panic(http.ErrAbortHandler)
	}
	if f.Status != 0 {
		if f.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
		}
		refuse(w, f.Status, f.Reason, f.Message)
		return
	}
	if f.Lose {
		c.route(httptest.NewRecorder(), r, parts)
		panic(http.ErrAbortHandler)
	}
	c.route(w, r, parts)
}

// route serves /api/v1/namespaces/NS/pods[/NAME[/SUB]] and the like.
func (c *Cluster) route(w http.ResponseWriter, r *http.Request, parts []string) {
	var namespace, kind, name, sub string
	for i, p := range parts {
		if p == "namespaces" && len(parts) > i+2 {
			namespace, kind = parts[i+1], parts[i+2]
			name = strings.Join(parts[i+3:min(i+4, len(parts))], "")
			sub = strings.Join(parts[min(i+4, len(parts)):], "/")
		}
	}
	switch {
	case r.URL.Path == "/version":
		answer(w, http.StatusOK, map[string]string{"gitVersion": "v1.36.3"})
	case strings.HasPrefix(r.URL.Path, "/apis/metrics.k8s.io/"):
		c.metrics(w, r)
	case strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews"):
		c.review(w, r)
	case kind == "daemonsets":
		c.daemonSets(w, r, namespace+"/"+name)
	case kind == "pods" && name != "" && !c.in(namespace, name):
		refuse(w, http.StatusNotFound, "NotFound", fmt.Sprintf("pods %q not found", name))
	case kind == "pods" && r.Method == http.MethodPost && r.URL.Query().Get("dryRun") != "":
		c.tryPod(w, r)
	case kind == "pods" && r.Method == http.MethodPost:
		c.createPod(w, r)
	case kind == "pods" && name == "" && r.URL.Query().Get("watch") != "":
		c.watch(w, r, namespace)
	case kind == "pods" && name == "":
		c.list(w, r, namespace)
	case kind == "pods" && sub == "exec":
		c.exec(w, r, name)
	case kind == "pods" && sub == "log":
		c.log(w, r, name)
	case kind == "pods" && r.Method == http.MethodDelete:
		c.deletePod(w, r, name)
	case kind == "pods":
		c.getPod(w, name)
	case kind == "secrets" && r.Method == http.MethodPost:
		create(c, w, r, c.secrets, func(s *rest.Secret) string { return s.Metadata.Name })
	case kind == "networkpolicies" && r.Method == http.MethodPost:
		create(c, w, r, c.policies, func(p *rest.NetworkPolicy) string {
			return p.Metadata.Namespace + "/" + p.Metadata.Name
		})
	default:
		refuse(w, http.StatusNotFound, "NotFound", "there is no "+r.URL.Path)
	}
}

func create[T any](c *Cluster, w http.ResponseWriter, r *http.Request, into map[string]*T,
	name func(*T) string) {
	made := new(T)
	if err := json.NewDecoder(r.Body).Decode(made); err != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if into[name(made)] != nil {
		refuse(w, http.StatusConflict, "AlreadyExists", name(made)+" already exists")
		return
	}
	into[name(made)] = made
	answer(w, http.StatusCreated, made)
}

// in reports whether a pod is in a namespace.
func (c *Cluster) in(namespace, name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pods[name]
	return p != nil && p.is.Metadata.Namespace == namespace
}

func (c *Cluster) list(w http.ResponseWriter, r *http.Request, namespace string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := rest.PodList{Metadata: rest.ListMeta{
		ResourceVersion: strconv.FormatUint(c.version, 10)}}
	for _, p := range c.pods {
		if matches(&p.is, namespace, r.URL.Query().Get("labelSelector")) {
			list.Items = append(list.Items, p.is)
		}
	}
	answer(w, http.StatusOK, list)
}

// watch sends the events after a version, until the watch's time is over.
func (c *Cluster) watch(w http.ResponseWriter, r *http.Request, namespace string) {
	query := r.URL.Query()
	from, err := strconv.ParseUint(query.Get("resourceVersion"), 10, 64)
	if err != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", "resourceVersion")
		return
	}
	for {
		c.mu.Lock()
		if c.closed || c.out {
			c.mu.Unlock()
			return
		}
		if from < c.oldest {
			c.mu.Unlock()
			refuse(w, http.StatusGone, "Expired", "too old resource version")
			return
		}
		var send []event
		for _, e := range c.events {
			if e.version > from && matches(&e.pod, namespace, query.Get("labelSelector")) {
				send = append(send, e)
			}
		}
		from = c.version
		news := c.news
		c.mu.Unlock()
		for _, e := range send {
			object, err := json.Marshal(e.pod)
			if err != nil {
				panic(err) // a Pod is plain data
			}
			if json.NewEncoder(w).Encode(rest.Event{Type: e.kind, Object: object}) != nil {
				return
			}
		}
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-news:
		case <-r.Context().Done():
			return
		}
	}
}

// matches knows selectors of the forms "a=b" and "a", with commas between them.
func matches(p *rest.Pod, namespace, selector string) bool {
	if p.Metadata.Namespace != namespace {
		return false
	}
	for _, part := range strings.Split(selector, ",") {
		name, value, equal := strings.Cut(part, "=")
		has, ok := p.Metadata.Labels[name]
		if part != "" && (!ok || equal && has != value) {
			return false
		}
	}
	return true
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the caller may have left
}

func refuse(w http.ResponseWriter, status int, reason, message string) {
	answer(w, status, rest.Status{Status: "Failure", Code: status, Reason: reason,
		Message: message})
}

func now() *time.Time {
	t := time.Now().UTC().Truncate(time.Second) // as the API has them
	return &t
}

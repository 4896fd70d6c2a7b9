package kube_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
	"go.yaml.in/yaml/v3"

	"github.com/sandpool/sandpool/internal/sandbox/kube"
	"github.com/sandpool/sandpool/internal/server"
)

const (
	chart     = "../../deploy/helm/sandpool"
	kustomize = "../../deploy/kustomize"
	scaling   = "../../deploy/scaling"
)

// object is an object of Kubernetes.
type object struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Data     map[string]string
	Rules    []struct {
		APIGroups []string `yaml:"apiGroups"`
		Resources []string
		Verbs     []string
	}
	Spec map[string]any
}

func objects(t *testing.T, text []byte) (all []object) {
	t.Helper()
	for dec := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var o object
		err := dec.Decode(&o)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%v in:\n%s", err, text)
		}
		if o.Kind != "" {
			all = append(all, o)
		}
	}
}

// values are the chart's, changed by set.
func values(t *testing.T, set string) map[string]any {
	t.Helper()
	var v, s map[string]any
	text, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err == nil {
		err = errors.Join(yaml.Unmarshal(text, &v), yaml.Unmarshal([]byte(set), &s))
	}
	if err != nil {
		t.Fatal(err)
	}
	return merge(s, v)
}

// merge puts into dst what src has and it lacks, as Helm's function does.
func merge(dst, src map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range src {
		out[k] = v
	}
	for k, v := range dst {
		below, both := out[k].(map[string]any)
		if own, ok := v.(map[string]any); ok && both {
			out[k] = merge(own, below)
			continue
		}
		out[k] = v
	}
	return out
}

// render renders the chart as Helm does, with those of its functions that the templates use.
func render(t *testing.T, v map[string]any) (all []object) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(chart, "templates", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		all = append(all, objects(t, []byte(renderText(t, filepath.Base(f), "sandpool", v)))...)
	}
	renderText(t, "NOTES.txt", "sandpool", v)
	return all
}

// renderText renders one file of the chart for a release in a namespace of its own name.
func renderText(t *testing.T, file, release string, v map[string]any) string {
	t.Helper()
	functions := template.FuncMap{
		"toJson": func(v any) (string, error) {
			text, err := json.Marshal(v)
			return string(text), err
		},
		"merge":     merge,
		"sha256sum": func(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) },
		"dict": func(pairs ...any) map[string]any {
			out := map[string]any{}
			for pair := range slices.Chunk(pairs, 2) {
				out[fmt.Sprint(pair[0])] = pair[1]
			}
			return out
		},
	}
	text, err := os.ReadFile(filepath.Join(chart, "templates", file))
	if err != nil {
		t.Fatal(err)
	}
	tmpl, err := template.New(file).Option("missingkey=error").Funcs(functions).Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = tmpl.Execute(&out, map[string]any{"Values": v, "Release": map[string]string{
		"Name": release, "Namespace": release, "Service": "Helm"}})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

const set = `
image: {repository: registry.example/sandpool, tag: "1"}
sandboxes: {runtimeClass: gvisor}
`

const nodeImages = "server: {images: {hostPath: /images}}"

// The schema takes what the chart needs, and refuses what it does not know.
func TestSchema(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(chart, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	schema, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	for change, ok := range map[string]bool{
		set:                              true,
		"":                               false, // neither an image nor a RuntimeClass
		"image: {repository: a, tag: b}": false,
		"image: {repository: a, tag: b}\nsandboxes: {isolation: elsewhere}": true,
		set + "servers: {}": false,
		// Sandboxes in the servers' pods need no RuntimeClass, and images of the node are theirs.
		"engine: gvisor\nimage: {repository: a, tag: b}":                true,
		"engine: gvisor\nimage: {repository: a, tag: b}\n" + nodeImages: true,
		"engine: runc\nimage: {repository: a, tag: b}":                  false,
		set + nodeImages: false,
		strings.Replace(set, "gvisor", "gvisor, namespaces: {a: [team-*], b: []}", 1):    true,
		strings.Replace(set, "gvisor", "gvisor, namespaces: {a: team}", 1):               false,
		strings.Replace(set, "gvisor", "gvisor, namespaces: {A_b: []}", 1):               false,
		set + "server: {replicas: 2, store: {secretName: a}}":                            false,
		set + "server: {replicas: 2, store: {secretName: a}, storeKey: {secretName: b}}": true,
		strings.Replace(set, "gvisor", "gvisor, network: none", 1):                       false,
		strings.Replace(set, "gvisor", "gvisor, cpuOvercommit: 0.5", 1):                  false,
		strings.Replace(set, "gvisor", "gvisor, isolation: elsewhere", 1):                false,
		strings.Replace(set, "gvisor", "gvisor, tolerations: [{kee: a}]", 1):             false,
	} {
		// As JSON has it: numbers of YAML are not all float64.
		text, err := json.Marshal(values(t, change))
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); (err == nil) != ok {
			t.Errorf("with %q: %v, want it to be taken: %v", change, err, ok)
		}
	}
}

// What the chart and the base tell the server is a configuration that it takes.
func TestConfig(t *testing.T) {
	read := func(text string) server.Config {
		t.Helper()
		name := filepath.Join(t.TempDir(), "sandpool.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := server.LoadConfig(name, nil)
		if err != nil {
			t.Fatalf("%v in:\n%s", err, text)
		}
		return cfg
	}
	var told string
	for _, o := range render(t, values(t, `
image: {repository: registry.example/sandpool, tag: "1"}
sandboxes:
  runtimeClass: gvisor
  tolerations: [{key: gvisor, operator: Exists, effect: NoSchedule}]
  nodeSelector: {pool: sandboxes}
  namespaces: {team-a: [team-a-*], retired: []}
  pullAhead: true
server: {config: {starts: 20}}
`)) {
		if o.Kind == "ConfigMap" {
			told = o.Data["sandpool.yaml"]
		}
	}
	cfg := read(told)
	if k := cfg.Kubernetes; cfg.Engine != "kubernetes" || cfg.Starts != 20 ||
		k.RuntimeClass != "gvisor" || len(k.Tolerations) != 1 || k.Tolerations[0].Key != "gvisor" ||
		k.NodeSelector["pool"] != "sandboxes" || len(k.Namespaces) != 2 || !k.PullAhead ||
		!slices.Equal(k.Namespaces["team-a"], []string{"team-a-*"}) || k.ProbeImage != "registry.example/sandpool:1" {
		t.Errorf("the chart tells the server %+v", cfg)
	}
	var pod, roles string
	for _, o := range render(t, values(t, "engine: gvisor\nimage: {repository: a, tag: b}\n"+
		nodeImages)) {
		switch o.Kind {
		case "ConfigMap":
			told = o.Data["sandpool.yaml"]
		case "StatefulSet":
			text, err := json.Marshal(o.Spec)
			if err != nil {
				t.Fatal(err)
			}
			pod = string(text)
		case "Role", "RoleBinding", "Namespace":
			roles += o.Kind + " "
		}
	}
	if got := read(told); got.Engine != "gvisor" || got.ImageDir != "/images" || roles != "" ||
		!strings.Contains(pod, `"privileged":true`) ||
		!strings.Contains(pod, `"automountServiceAccountToken":false`) {
		t.Errorf("servers with sandboxes in their pods are told %+v, in %s, and may: %s", got, pod,
			roles)
	}
	base, err := os.ReadFile(filepath.Join(kustomize, "sandpool.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if got := read(string(base)); got.Kubernetes.Namespace != cfg.Kubernetes.Namespace ||
		got.DataDir != cfg.DataDir || got.Listen != cfg.Listen {
		t.Errorf("the base tells the server %+v", got)
	}
}

// The server may do what the engine needs, and nothing else, by the chart and by the base.
func TestRoles(t *testing.T) {
	base, err := os.ReadFile(filepath.Join(kustomize, "role.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, a := range kube.Needs() {
		resource := a.Resource
		if a.Subresource != "" {
			resource += "/" + a.Subresource
		}
		want = append(want, a.Group+" "+resource+" "+a.Verb)
	}
	slices.Sort(want)
	ahead := slices.Clone(want)
	for _, a := range kube.NeedsToPull() {
		ahead = append(ahead, a.Group+" "+a.Resource+" "+a.Verb)
	}
	slices.Sort(ahead)
	for where, all := range map[string][]object{"chart": render(t, values(t, set)),
		"base": objects(t, base), "chart that pulls ahead": render(t, values(t,
			strings.Replace(set, "gvisor", "gvisor, pullAhead: true", 1)))} {
		want := want
		if where == "chart that pulls ahead" {
			want = ahead
		}
		var got []string
		for _, o := range all {
			if o.Kind == "ClusterRole" || o.Kind == "ClusterRoleBinding" {
				t.Errorf("the %s has a %s", where, o.Kind)
			}
			for _, r := range o.Rules {
				for _, resource := range r.Resources {
					for _, verb := range r.Verbs {
						got = append(got, r.APIGroups[0]+" "+resource+" "+verb)
					}
				}
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the %s: -needed +allowed\n%s", where, diff)
		}
	}
}

// Each namespace that pools have gets what the usual one has.
func TestChartNamespaces(t *testing.T) {
	kinds := map[string][]string{}
	for _, o := range render(t, values(t, `
image: {repository: registry.example/sandpool, tag: "1"}
sandboxes: {runtimeClass: gvisor, namespaces: {team-a: [team-a-*]}, quota: {pods: 10}}
`)) {
		where := o.Metadata.Namespace
		if o.Kind == "Namespace" {
			where = o.Metadata.Name
		}
		kinds[where] = append(kinds[where], o.Kind)
	}
	want := []string{"Namespace", "Role", "RoleBinding", "ResourceQuota"}
	for _, namespace := range []string{"sandpool-sandboxes", "team-a"} {
		if diff := cmp.Diff(want, kinds[namespace]); diff != "" {
			t.Errorf("in %s: -want +made\n%s", namespace, diff)
		}
	}
}

// The chart and the base make the same objects, and the base names files that are there.
func TestSameObjects(t *testing.T) {
	var names struct{ Resources []string }
	text, err := os.ReadFile(filepath.Join(kustomize, "kustomization.yaml"))
	if err == nil {
		err = yaml.Unmarshal(text, &names)
	}
	if err != nil {
		t.Fatal(err)
	}
	kinds := func(all []object) (out []string) {
		for _, o := range all {
			// Helm makes the release's namespace itself, and kustomize the ConfigMap.
			if o.Kind != "ConfigMap" && (o.Kind != "Namespace" || o.Metadata.Name != "sandpool") {
				out = append(out, o.Kind+" "+o.Metadata.Name)
			}
		}
		slices.Sort(out)
		return out
	}
	var base []object
	for _, name := range names.Resources {
		text, err := os.ReadFile(filepath.Join(kustomize, name))
		if err != nil {
			t.Fatal(err)
		}
		base = append(base, objects(t, text)...)
	}
	if diff := cmp.Diff(kinds(render(t, values(t, set))), kinds(base)); diff != "" {
		t.Errorf("-chart +base\n%s", diff)
	}
}

package control

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
)

// fullCode and fullContainer have every field that a pool can have, with values that are no
// defaults.
const (
	fullCode = `{"location":"there","tags":{"a":"b"},
	"identity":{"type":"SystemAssigned","userAssignedIdentities":null},"properties":{
	"containerType":"PythonLTS","poolManagementType":"Dynamic",
	"scaleConfiguration":{"maxConcurrentSessions":20,"readySessionInstances":4},
	"secrets":[{"name":"api","value":"hunter2","keyVaultUrl":"","identity":""}],
	"dynamicPoolConfiguration":{"lifecycleConfiguration":{"lifecycleType":"Timed","cooldownPeriodInSeconds":360,"maxAlivePeriodInSeconds":null}},
	"sessionNetworkConfiguration":{"status":"EgressDisabled"},
	"managedIdentitySettings":[{"identity":"system","lifecycle":"Main"}],
	"mcpServerSettings":{"isMcpServerEnabled":true,"isMCPServerEnabled":true,"isMcpServerApiKeyDisabled":true},
	"sandpool":{"image":"other","cpu":0.5,"memory":"768Mi","pids":300,"disk":"2Gi",
		"queue":{"length":7,"waitInSeconds":20},"evictIdleAfterInSeconds":30,
		"history":{"enabled":true,"retentionInSeconds":7200},
		"identityAudiences":["api://app"],
		"egress":{"allow":["api.example.com:443"],"deny":["192.0.2.0/24"],"maxConnections":9,
			"bandwidth":"10Mi","inspect":true,"credentials":[{"url":"https://api.example.com",
			"header":"Authorization","prefix":"Bearer ","secretRef":"api"}]}}}}`
	fullProxy = `{"properties":{"sandpool":{"egress":{"allow":["api.example.com"],"proxy":true}}}}`

	fullContainer = `{"location":"there","properties":{"containerType":"CustomContainer",
	"environmentId":"/subscriptions/s1/resourceGroups/lab/providers/Microsoft.App/managedEnvironments/env",
	"scaleConfiguration":{"maxConcurrentSessions":20,"readySessionInstances":4},
	"secrets":[{"name":"key","value":"hunter2"}],
	"dynamicPoolConfiguration":{"lifecycleConfiguration":{"lifecycleType":"OnContainerExit","maxAlivePeriodInSeconds":700}},
	"customContainerTemplate":{"initContainers":null,"volumes":[],
		"registryCredentials":{"server":"registry.example:5000","username":"ann","passwordSecretRef":"key","identity":""},
		"containers":[{"image":"registry.example:5000/app:1","name":"main","command":["/bin/app"],"args":["-v"],
			"env":[{"name":"A","value":"1"},{"name":"KEY","secretRef":"key"}],
			"resources":{"cpu":0.25,"memory":"512Mi"},"volumeMounts":null,
			"probes":[{"type":"Startup","tcpSocket":{"host":"","port":8081},"failureThreshold":30,"initialDelaySeconds":2,
				"periodSeconds":3,"successThreshold":1,"timeoutSeconds":4,"terminationGracePeriodSeconds":5},
				{"type":"Liveness","httpGet":{"host":"app.example.com","path":"/health","port":8080,"scheme":"HTTPS",
				"httpHeaders":[{"name":"X-A","value":"b"}]}}]}],
		"ingress":{"targetPort":8080}},
	"sandpool":{"warmStart":"snapshot","warmStartHook":"/reseed","workingDir":"/srv","ports":[5432],
		"keepAuthorization":true,"keepCookies":true,"transport":"http2","tunnelIdleInSeconds":90}}}`
	earlyForm = `{"properties":{"containerType":"CustomContainer",
	"dynamicPoolConfiguration":{"executionType":"Timed","cooldownPeriodInSeconds":400},
	"customContainerTemplate":{"registryCredentials":{"registryServer":"registry.example:5000","username":"ann","passwordSecretRef":"key"},
		"containers":[{"image":"registry.example:5000/app:1"}],"ingress":{"targetPort":80}},
	"secrets":[{"name":"key","value":"hunter2"}]}}`
)

// leaves calls found with each value in v that is something, and its path.
func leaves(v any, path string, found func(path, value string)) {
	switch v := v.(type) {
	case map[string]any:
		for name, each := range v {
			leaves(each, path+"."+name, found)
		}
	case []any:
		for i, each := range v {
			leaves(each, fmt.Sprintf("%s[%d]", path, i), found)
		}
	case nil:
	default:
		if text := fmt.Sprint(v); text != "" {
			found(path, text)
		}
	}
}

// kept fails the test unless the pool has every value of body.
func (k *kit) kept(what, body string) {
	k.t.Helper()
	tree := func(text []byte) map[string]string {
		var v any
		if err := json.Unmarshal(text, &v); err != nil {
			k.t.Fatal(err)
		}
		out := map[string]string{}
		leaves(v, "", func(path, value string) { out[path] = value })
		return out
	}
	got := k.want(200, k.do("GET", pypool+version, "")).body
	has := tree(got)
	for path, value := range tree([]byte(body)) {
		secret := strings.HasPrefix(path, ".properties.secrets") && strings.HasSuffix(path, ".value")
		if !secret && has[path] != value {
			k.t.Errorf("%s: %s is %q, want %q", what, path, has[path], value)
		}
	}
}

// TestFields: every field that is described is taken, by PUT and by PATCH, and is there afterwards.
func TestFields(t *testing.T) {
	for name, c := range map[string]struct{ bare, full, then string }{
		"code": {`{"location":"there"}`, fullCode, fullProxy},
		"container": {`{"location":"there","properties":{"containerType":"CustomContainer",` +
			`"environmentId":"/subscriptions/s1/resourceGroups/lab/providers/Microsoft.App/` +
			`managedEnvironments/env","customContainerTemplate":{"containers":[{"image":` +
			`"registry.example:5000/app:0"}],"ingress":{"targetPort":80}}}}`, fullContainer, ""},
	} {
		k := newKit(t, Options{Identities: true, Kinds: []sandpool.ContainerType{sandpool.PythonLTS,
			sandpool.CustomContainer}, Locations: func() []string { return []string{"here", "there"} }})
		k.want(201, k.do("PUT", pypool+version, c.full))
		k.kept(name+", made", c.full)
		k = newKit(t, Options{Identities: true, Kinds: []sandpool.ContainerType{sandpool.PythonLTS,
			sandpool.CustomContainer}, Locations: func() []string { return []string{"here", "there"} }})
		k.want(201, k.do("PUT", pypool+version, c.bare))
		k.want(200, k.do("PATCH", pypool+version, c.full))
		k.kept(name+", patched", c.full)
		if c.then == "" {
			continue
		}
		for _, method := range []string{"PATCH", "PUT"} {
			k.want(200, k.do(method, pypool+version, c.then))
			k.kept(name+", "+method, c.then)
		}
	}
	k := newKit(t, containers())
	const early = "?api-version=2024-02-02-preview"
	k.want(201, k.do("PUT", pypool+early, earlyForm))
	k.want(200, k.do("PATCH", pypool+early, earlyForm))
	r := k.want(200, k.do("GET", pypool+early, ""))
	if d := r.pool.Properties.DynamicPoolConfiguration; d.ExecutionType != "Timed" ||
		*d.CooldownPeriodInSeconds != 400 {
		t.Errorf("the early form: %s", r.body)
	}
}

// TestWrongTypes: no field is read without a look at what it is.
func TestWrongTypes(t *testing.T) {
	k := newKit(t, Options{Identities: true, Kinds: []sandpool.ContainerType{sandpool.PythonLTS,
		sandpool.CustomContainer}})
	for _, body := range []string{fullCode, fullContainer} {
		var whole any
		if err := json.Unmarshal([]byte(body), &whole); err != nil {
			t.Fatal(err)
		}
		k.want(201, k.do("PUT", pypool+version, body))
		spoil(whole, func(path string) {
			text, err := json.Marshal(whole)
			if err != nil {
				t.Fatal(err)
			}
			for _, method := range []string{"PUT", "PATCH"} {
				if r := k.do(method, pypool+version, string(text)); r.status != 400 || r.err.Message == "" {
					t.Errorf("%s with a wrong %s: %d %s", method, path, r.status, r.body)
				}
			}
		})
		k.do("DELETE", pypool+version, "")
	}
}

// spoil calls try with each value below v in turn replaced by one of another type.
func spoil(v any, try func(path string)) {
	wrong := func(old any) any {
		if _, list := old.([]any); list {
			return "text"
		}
		return []any{map[string]any{"x": 1}}
	}
	var below func(v any, path string)
	each := func(old any, path string, set func(any)) {
		if old == nil {
			return
		}
		set(wrong(old))
		try(path)
		set(old)
		below(old, path)
	}
	below = func(v any, path string) {
		switch v := v.(type) {
		case map[string]any:
			for name, old := range v {
				each(old, path+"."+name, func(n any) { v[name] = n })
			}
		case []any:
			for i, old := range v {
				each(old, fmt.Sprintf("%s[%d]", path, i), func(n any) { v[i] = n })
			}
		}
	}
	below(v, "")
}

// TestUnknownInPatch: a patch with a name that pools do not know is refused at any depth.
func TestUnknownInPatch(t *testing.T) {
	k := newKit(t, containers())
	k.want(201, k.do("PUT", pypool+version, azContainer))
	for body, target := range map[string]string{
		`{"properties":{"sandpool":{"pids":300,"PIDs":301}}}`: "properties.sandpool.pids",
		`{"properties":{"sandpool":{"pids":300,"PIDs":300}}}`: "",
		`{"Tags":{},"tags":{"a":"b"}}`:                        "tags",
		`{"propertys":{}}`:                                    "propertys",
		`{"properties":{"max":1}}`:                            "properties.max",
		`{"properties":{"nodeCount":3}}`:                      "",
		`{"tags":{"anything":"may be"}}`:                      "",
		`{"systemData":{"createdBy":null}}`:                   "",
		`{"properties":{"scaleConfiguration":{"maxConcurentSessions":7}}}`: "properties." +
			"scaleConfiguration.maxConcurentSessions",
		`{"properties":{"sandpool":{"egress":{"alow":["a.example.com"]}}}}`: "properties." +
			"sandpool.egress.alow",
		`{"properties":{"customContainerTemplate":{"containers":[{"image":"a","imag":"b"}]}}}`: "properties." +
			"customContainerTemplate.containers[0].imag",
		`{"properties":{"SCALEconfiguration":{"MAXconcurrentSessions":"7"}}}`: "",
	} {
		r := k.do("PATCH", pypool+version, body)
		if target == "" && r.status != 200 || target != "" && (r.status != 400 ||
			r.err.Target != target && !strings.Contains(string(r.body), target)) {
			t.Errorf("PATCH %s: %d %s", body, r.status, r.body)
		}
	}
}

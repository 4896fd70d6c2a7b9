package control

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

func containers() Options {
	return Options{Kinds: []sandpool.ContainerType{sandpool.PythonLTS, sandpool.CustomContainer}}
}

// azContainer is the body of "az containerapp sessionpool create", with the nulls that az sends
// for what was left out.
const azContainer = `{"location":"westus2","tags":null,"identity":null,"properties":{
	"environmentId":"/subscriptions/s1/resourceGroups/lab/providers/Microsoft.App/managedEnvironments/env",
	"containerType":"CustomContainer","poolManagementType":"Dynamic",
	"scaleConfiguration":{"maxConcurrentSessions":20,"readySessionInstances":5},
	"secrets":[{"name":"password","value":"hunter2","keyVaultUrl":"","identity":""},{"name":"key","value":"hunter3"}],
	"dynamicPoolConfiguration":{"lifecycleConfiguration":{"lifecycleType":"Timed","maxAlivePeriodInSeconds":null,"cooldownPeriodInSeconds":360}},
	"sessionNetworkConfiguration":{"status":"EgressDisabled"},"managedIdentitySettings":null,
	"customContainerTemplate":{
		"registryCredentials":{"server":"registry.example:5000","username":"ann","passwordSecretRef":"password","identity":null},
		"containers":[{"image":"registry.example:5000/team/app:1.2","name":"app","command":["/bin/app"],"args":["-v",""],
			"env":[{"name":"A","value":"1"},{"name":"KEY","secretRef":"key","value":null}],
			"resources":{"cpu":0.25,"memory":"0.5Gi"},"volumeMounts":null,
			"probes":[{"type":"Liveness","httpGet":{"path":"/health","port":8080,"httpHeaders":[{"name":"X-Probe","value":"yes"}]},"failureThreshold":4,"periodSeconds":5},
				{"type":"startup","tcpSocket":{"port":8080},"failureThreshold":30,"timeoutSeconds":2,"initialDelaySeconds":1,"terminationGracePeriodSeconds":9}]}],
		"ingress":{"targetPort":8080}}}}`

// containerSpec is what azContainer asks for.
func containerSpec() sandpool.Spec {
	return sandpool.Spec{
		Kind: sandpool.CustomContainer, Image: "registry.example:5000/team/app:1.2",
		Resources: sandpool.Resources{CPU: 0.25, Memory: 512 << 20},
		Network:   sandpool.Network{Status: sandpool.EgressDisabled},
		Secrets:   map[string]string{"key": "v1", "password": "v1"},
		Container: &sandpool.Container{Name: "app",
			Registry: sandpool.Registry{Server: "registry.example:5000", Username: "ann",
				PasswordRef: "password"},
			Command: []string{"/bin/app"}, Args: []string{"-v", ""},
			Env: []sandpool.EnvVar{{Name: "A", Value: "1"}, {Name: "KEY", SecretRef: "key"}},
			Startup: &sandpool.Probe{TCP: sandpool.TCPProbe{Port: 8080}, Failures: 30,
				Timeout: 2 * time.Second,
				Delay:   time.Second, Grace: 9 * time.Second},
			Liveness: &sandpool.Probe{HTTP: sandpool.HTTPProbe{Port: 8080, Path: "/health",
				Headers: []sandpool.Header{{Name: "X-Probe", Value: "yes"}}}, Failures: 4,
				Period: 5 * time.Second}},
		Lifecycle:   sandpool.Lifecycle{Type: sandpool.Timed},
		Forwarding:  sandpool.Forwarding{Port: 8080},
		Environment: "/subscriptions/s1/resourceGroups/lab/providers/Microsoft.App/managedEnvironments/env",
	}
}

func (k *kit) spec() sandpool.Spec { return k.pools.pools[strings.ToLower(pypool)].pool.Spec }

func (k *kit) wantSpec(want sandpool.Spec) {
	k.t.Helper()
	if diff := cmp.Diff(want, k.spec()); diff != "" {
		k.t.Errorf("spec: -want +got\n%s", diff)
	}
}

func TestContainerPool(t *testing.T) {
	k := newKit(t, containers())
	k.want(201, k.do("PUT", pypool+version, azContainer))
	k.wantSpec(containerSpec())
	if got := k.pools.secrets["password"].Reveal() +
		k.pools.secrets["key"].Reveal(); got != "hunter2hunter3" {
		t.Errorf("the secrets are %q", got)
	}
	// What is read can be written, and nothing changes by it.
	for _, method := range []string{"PUT", "PATCH"} {
		r := k.want(200, k.do("GET", pypool+version, ""))
		if strings.Contains(string(r.body), "hunter") || len(r.pool.Properties.Secrets) != 2 {
			t.Errorf("GET: %s", r.body)
		}
		k.want(200, k.do(method, pypool+version, string(r.body)))
		k.wantSpec(containerSpec())
		if !k.pools.secrets["password"].IsZero() || len(k.pools.secrets) != 2 {
			t.Errorf("%s of what GET answers asks for other secrets", method)
		}
	}
	for _, target := range []string{rg + version, pypool + "/status"} {
		if r := k.do("GET", target, ""); strings.Contains(string(r.body), "hunter") {
			t.Errorf("GET %s shows a secret: %s", target, r.body)
		}
	}
	// A patch without secrets says nothing about them.
	k.pools.secrets = nil
	k.want(200, k.do("PATCH", pypool+version,
		`{"properties":{"scaleConfiguration":{"maxConcurrentSessions":7}}}`))
	k.wantSpec(containerSpec())
	// A put without them keeps them, one with others replaces them.
	k.want(200, k.do("PUT", pypool+version, withoutSecrets(t)))
	k.wantSpec(containerSpec())
	r := k.want(400, k.do("PATCH", pypool+version, `{"properties":{"secrets":[{"name":"key"}]}}`))
	if r.err.Target != "properties.customContainerTemplate.registryCredentials.passwordSecretRef" {
		t.Errorf("a secret that is used was dropped: %s", r.body)
	}
}

func withoutSecrets(t *testing.T) string {
	t.Helper()
	var body api.SessionPool
	if err := json.Unmarshal([]byte(azContainer), &body); err != nil {
		t.Fatal(err)
	}
	body.Properties.Secrets = nil
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Settings of sandpool's own.
func TestContainerSettings(t *testing.T) {
	k := newKit(t, containers())
	k.want(201, k.do("PUT", pypool+version, azContainer))
	k.want(200, k.do("PATCH", pypool+version, `{"properties":{"sandpool":{"warmStart":"Snapshot","warmStartHook":"/reseed",
		"workingDir":"/srv","ports":[5432],"keepAuthorization":true,"keepCookies":true,"transport":"HTTP2","tunnelIdleInSeconds":90,"pids":500,"disk":"1Gi"},
		"dynamicPoolConfiguration":{"lifecycleConfiguration":{"lifecycleType":"OnContainerExit","maxAlivePeriodInSeconds":600}}}}`))
	want := containerSpec()
	want.WarmStart = sandpool.WarmStart{Mode: sandpool.StartBySnapshot, Hook: "/reseed"}
	want.Container.Dir = "/srv"
	want.Forwarding = sandpool.Forwarding{Port: 8080, Ports: []int{5432}, KeepAuthorization: true,
		KeepCookies: true,
		Transport:   sandpool.TransportHTTP2, TunnelIdle: 90 * time.Second}
	want.Resources.PIDs, want.Resources.Disk = 500, 1<<30
	want.Lifecycle = sandpool.Lifecycle{Type: sandpool.OnContainerExit, MaxAlive: 10 * time.Minute}
	k.wantSpec(want)
	r := k.want(200, k.do("GET", pypool+version, ""))
	k.want(200, k.do("PUT", pypool+version, string(r.body)))
	k.wantSpec(want)
	k.want(200, k.do("PATCH", pypool+version,
		`{"properties":{"dynamicPoolConfiguration":{"executionType":"Timed"}}}`))
	want.Lifecycle = sandpool.Lifecycle{Type: sandpool.Timed}
	k.wantSpec(want)
}

func TestContainerProblems(t *testing.T) {
	k := newKit(t, containers())
	const at = "properties.customContainerTemplate"
	for name, c := range map[string]struct{ old, with, target string }{
		"no template":   {`"customContainerTemplate":{`, `"other":{`, at + ".containers"},
		"no containers": {`"containers":[{`, `"others":[{`, at + ".containers"},
		"two containers": {`"containers":[{`, `"containers":[{"image":"a"},{`,
			at + ".containers[1]"},
		"init containers": {`"containers":[{`, `"initContainers":[{}],"containers":[{`,
			at + ".initContainers"},
		"volumes": {`"containers":[{`, `"volumes":[{}],"containers":[{`,
			at + ".volumes"},
		"volume mounts": {`"volumeMounts":null`, `"volumeMounts":[{}]`,
			at + ".containers[0].volumeMounts"},
		"registry identity": {`"passwordSecretRef":"password","identity":null`,
			`"passwordSecretRef":"password","identity":"system"`, at +
				".registryCredentials.identity"},
		"identity": {`"identity":null,"properties"`,
			`"identity":{"type":"SystemAssigned"},"properties"`, "identity.type"},
		"identity settings": {`"managedIdentitySettings":null`,
			`"managedIdentitySettings":[{"identity":"system"}]`,
			"properties.managedIdentitySettings"},
		"egress": {"EgressDisabled", "EgressEnabled",
			"properties.sessionNetworkConfiguration.status"},
		"no image": {`"image":"registry.example:5000/team/app:1.2"`, `"image":""`,
			at + ".containers[0].image"},
		"image":  {"team/app:1.2", "../app", at + ".containers[0].image"},
		"cpu":    {`"cpu":0.25`, `"cpu":0.01`, at + ".containers[0].resources.cpu"},
		"memory": {"0.5Gi", "1Mi", at + ".containers[0].resources.memory"},
		"no port": {`"ingress":{"targetPort":8080}`, `"ingress":{}`,
			at + ".ingress.targetPort"},
		"port": {`"targetPort":8080`, `"targetPort":70000`,
			at + ".ingress.targetPort"},
		"unknown secret": {`"secretRef":"key"`, `"secretRef":"none"`,
			at + ".containers[0].env[1].secretRef"},
		"variable twice":  {`"name":"KEY"`, `"name":"A"`, at + ".containers[0].env[1].name"},
		"variable's name": {`"name":"KEY"`, `"name":"K=Y"`, at + ".containers[0].env[1].name"},
		"value and secret": {`"secretRef":"key","value":null`, `"secretRef":"key","value":"x"`,
			at + ".containers[0].env[1]"},
		"readiness":     {`"Liveness"`, `"Readiness"`, at + ".containers[0].probes[0].type"},
		"two of a type": {`"Liveness"`, `"Startup"`, at + ".containers[0].probes[1].type"},
		"success threshold": {`"failureThreshold":30`, `"successThreshold":2`,
			at + ".containers[0].probes[1].successThreshold"},
		"both ways": {`"tcpSocket":{"port":8080}`,
			`"httpGet":{"port":1},"tcpSocket":{"port":8080}`, at + ".containers[0].probes[1]"},
		"other host": {`"tcpSocket":{"port":8080}`,
			`"tcpSocket":{"port":8080,"host":"169.254.169.254"}`, at +
				".containers[0].probes[1].tcpSocket.host"},
		"split header": {`"value":"yes"`, `"value":"yes\r\nX: y"`,
			at + ".containers[0].probes[0].httpGet.httpHeaders[0]"},
		"path": {`"/health"`, `"/a b"`, at + ".containers[0].probes[0].httpGet.path"},
		"key vault": {`"keyVaultUrl":""`, `"keyVaultUrl":"https://v"`,
			"properties.secrets[0].keyVaultUrl"},
		"secret's name": {`"name":"key","value":"hunter3"`, `"name":"-"`,
			"properties.secrets[1].name"},
		"password alone": {`"username":"ann"`, `"username":""`, at + ".registryCredentials"},
		"transport": {`"customContainerTemplate":{`,
			`"sandpool":{"transport":"http3"},"customContainerTemplate":{`,
			"properties.sandpool.transport"},
		"tunnels": {`"customContainerTemplate":{`,
			`"sandpool":{"tunnelIdleInSeconds":0},"customContainerTemplate":{`,
			"properties.sandpool.tunnelIdleInSeconds"},
		"cooldown and exit": {`"lifecycleType":"Timed"`, `"lifecycleType":"OnContainerExit"`,
			"properties.dynamicPoolConfiguration.lifecycleConfiguration.cooldownPeriodInSeconds"},
		"max alive of timed": {`"maxAlivePeriodInSeconds":null`, `"maxAlivePeriodInSeconds":600`,
			"properties.dynamicPoolConfiguration.lifecycleConfiguration.maxAlivePeriodInSeconds"},
		"wrong kind": {`"CustomContainer"`, `"PythonLTS"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(azContainer, c.old) {
				t.Fatalf("the body has no %s", c.old)
			}
			r := k.want(400, k.do("PUT", pypool+version, strings.Replace(azContainer, c.old, c.with,
				1)))
			targets := []string{r.err.Target}
			for _, d := range r.err.Details {
				targets = append(targets, d.Target)
			}
			if c.target != "" && !strings.Contains(strings.Join(targets, " ")+" ", c.target+" ") {
				t.Errorf("the problems are in %q, want %s among them", targets, c.target)
			}
			if strings.Contains(string(r.body), "hunter") {
				t.Errorf("the error shows a secret: %s", r.body)
			}
		})
	}
}

// A server that does not build containers says so.
func TestContainerUnsupported(t *testing.T) {
	k := newKit(t, Options{})
	r := k.want(400, k.do("PUT", pypool+version, azContainer))
	for _, d := range r.err.Details {
		if d.Code == codeUnsupported && d.Target == "properties.containerType" {
			return
		}
	}
	t.Errorf("%s", r.body)
}

// FuzzContainer checks that what is accepted is written and read again without a change, by which
// a PATCH works.
func FuzzContainer(f *testing.F) {
	f.Add(azContainer)
	f.Add(strings.Replace(azContainer,
		`"lifecycleType":"Timed","maxAlivePeriodInSeconds":null,"cooldownPeriodInSeconds":360`,
		`"lifecycleType":"OnContainerExit"`, 1))
	c := &Control{o: containers()}
	c.defaults()
	id := sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "pypool"}
	f.Fuzz(func(t *testing.T, text string) {
		var body api.SessionPool
		if json.Unmarshal([]byte(text), &body) != nil {
			return
		}
		p, secrets, err := c.parse(t.Context(), id, body, nil)
		if err != nil {
			if sandpool.ClassOf(err) == sandpool.Internal {
				t.Fatalf("%s: %v", text, err)
			}
			return
		}
		for _, name := range secrets.Names() {
			if p.Spec.Secrets == nil {
				p.Spec.Secrets = map[string]string{}
			}
			p.Spec.Secrets[name] = "v1"
		}
		again, _, err := c.parse(t.Context(), id, wire(p, ""), &p)
		if err != nil {
			t.Fatalf("%s is accepted, and not as it is then shown: %v", text, err)
		}
		if !p.Spec.SameSandbox(again.Spec) || p.Cooldown != again.Cooldown ||
			p.Spec.Lifecycle != again.Spec.Lifecycle {
			t.Fatalf("%s is accepted as %+v, and read again as %+v", text, p, again)
		}
	})
}

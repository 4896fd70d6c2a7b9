package control

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
)

func TestPutRefuses(t *testing.T) {
	k := newKit(t, Options{Limits: Ranges{Resources: sandpool.Resources{CPU: 4, Memory: 4 << 30}}})
	const (
		scale     = "properties.scaleConfiguration."
		dynamic   = "properties.dynamicPoolConfiguration."
		lifecycle = dynamic + "lifecycleConfiguration."
	)
	for _, c := range []struct{ props, code, target string }{
		{`"scaleConfiguration":{"maxConcurrentSessions":0}`, codeInvalid,
			scale + "maxConcurrentSessions"},
		{`"scaleConfiguration":{"maxConcurrentSessions":601}`, codeInvalid,
			scale + "maxConcurrentSessions"},
		{`"scaleConfiguration":{"maxConcurrentSessions":-1}`, codeInvalid,
			scale + "maxConcurrentSessions"},
		{`"scaleConfiguration":{"maxConcurrentSessions":"five"}`, "InvalidRequestContent",
			scale + "maxConcurrentSessions"},
		{`"scaleConfiguration":{"maxConcurrentSessions":5,"readySessionInstances":5}`, codeReady,
			scale + "readySessionInstances"},
		{`"scaleConfiguration":{"readySessionInstances":-1}`, codeReady,
			scale + "readySessionInstances"},
		{`"SCALEconfiguration":{"MAXconcurrentSESSIONS":601}`, codeInvalid,
			scale + "maxConcurrentSessions"},
		{`"dynamicPoolConfiguration":{"cooldownPeriodInSeconds":299}`, codeInvalid,
			dynamic + "cooldownPeriodInSeconds"},
		{`"dynamicPoolConfiguration":{"coolDownPeriodInSeconds":3601}`, codeInvalid,
			dynamic + "cooldownPeriodInSeconds"},
		{`"dynamicPoolConfiguration":{"lifecycleConfiguration":{"cooldownPeriodInSeconds":9223372036854775807}}`,
			codeInvalid, lifecycle + "cooldownPeriodInSeconds"},
		{`"dynamicPoolConfiguration":{"cooldownPeriodInSeconds":400,"lifecycleConfiguration":{"cooldownPeriodInSeconds":500}}`,
			codeInvalid, "properties.dynamicPoolConfiguration"},
		{`"dynamicPoolConfiguration":{"executionType":"Sometimes"}`, codeInvalid,
			dynamic + "executionType"},
		{`"dynamicPoolConfiguration":{"lifecycleConfiguration":{"lifecycleType":"OnContainerExit"}}`,
			codeUnsupported, lifecycle + "lifecycleType"},
		{`"dynamicPoolConfiguration":{"lifecycleConfiguration":{"maxAlivePeriodInSeconds":60}}`,
			codeUnsupported, lifecycle + "maxAlivePeriodInSeconds"},
		{`"containerType":"NodeLTS"`, codeUnsupported, "properties.containerType"},
		{`"containerType":"Shell"`, codeUnsupported, "properties.containerType"},
		{`"containerType":"customcontainer"`, codeUnsupported, "properties.containerType"},
		{`"containerType":"JupyterPython"`, codeInvalid, "properties.containerType"},
		{`"poolManagementType":"Manual"`, codeUnsupported, "properties.poolManagementType"},
		{`"environmentId":"/subscriptions/x"`, codeUnsupported, "properties.environmentId"},
		{`"secrets":[{"name":"a b","value":"b"}]`, codeInvalid, "properties.secrets[0].name"},
		{`"customContainerTemplate":{"containers":[]}`, codeUnsupported,
			"properties.customContainerTemplate"},
		{`"managedIdentitySettings":[{"identity":"system"}]`, codeUnsupported,
			"properties.managedIdentitySettings"},
		{`"mcpServerSettings":{"isMCPServerEnabled":true,"isMcpServerEnabled":false}`, codeInvalid,
			"properties.mcpServerSettings.isMcpServerEnabled"},
		{`"sessionNetworkConfiguration":{"status":"EgressEnabled"}`, codeUnsupported,
			"properties.sessionNetworkConfiguration.status"},
		{`"sessionNetworkConfiguration":{"status":"Open"}`, codeInvalid,
			"properties.sessionNetworkConfiguration.status"},
		{`"sandpool":{"image":"/etc"}`, codeInvalid, "properties.sandpool.image"},
		{`"sandpool":{"image":"a/../b"}`, codeInvalid, "properties.sandpool.image"},
		{`"sandpool":{"cpu":0}`, codeInvalid, "properties.sandpool.cpu"},
		{`"sandpool":{"cpu":5}`, codeInvalid, "properties.sandpool.cpu"},
		{`"sandpool":{"memory":"8Gi"}`, codeInvalid, "properties.sandpool.memory"},
		{`"sandpool":{"memory":"-1"}`, codeInvalid, "properties.sandpool.memory"},
		{`"sandpool":{"memory":"1e99"}`, codeInvalid, "properties.sandpool.memory"},
		{`"sandpool":{"memory":"inf"}`, codeInvalid, "properties.sandpool.memory"},
		{`"sandpool":{"memory":"99999999999999999999Gi"}`, codeInvalid,
			"properties.sandpool.memory"},
		{`"sandpool":{"disk":"1Ki"}`, codeInvalid, "properties.sandpool.disk"},
		{`"sandpool":{"pids":1}`, codeInvalid, "properties.sandpool.pids"},
		{`"sandpool":{"queue":{}}`, codeInvalid, "properties.sandpool.queue.length"},
		{`"sandpool":{"queue":{"length":-1}}`, codeInvalid, "properties.sandpool.queue.length"},
		{`"sandpool":{"queue":{"length":1001}}`, codeInvalid, "properties.sandpool.queue.length"},
		{`"sandpool":{"queue":{"length":1,"waitInSeconds":0}}`, codeInvalid,
			"properties.sandpool.queue.waitInSeconds"},
		{`"sandpool":{"queue":{"length":1,"waitInSeconds":9223372036854775807}}`, codeInvalid,
			"properties.sandpool.queue.waitInSeconds"},
		{`"sandpool":{"evictIdleAfterInSeconds":-1}`, codeInvalid,
			"properties.sandpool.evictIdleAfterInSeconds"},
		{`"sandpool":{"evictIdleAfterInSeconds":9223372036854775807}`, codeInvalid,
			"properties.sandpool.evictIdleAfterInSeconds"},
	} {
		r := k.do("PUT", pypool+version, `{"location":"x","properties":{`+c.props+`}}`)
		if r.status != 400 || r.err.Code != c.code || !slices.Equal(targets(r.err),
			[]string{c.target}) || r.header.Get("X-Ms-Error-Code") != c.code {
			t.Errorf("%s: status %d, %s", c.props, r.status, r.body)
		}
	}
	for body, target := range map[string]string{
		`{"identity":{"type":"SystemAssigned, UserAssigned"}}`: "identity.type",
		`{"location":"a\u0000b"}`:                              "location",
		`{"location":"` + strings.Repeat("x", 91) +
			`"}`: "location",
		`{"location":"x","properties":{"sandpool":{"image":"` + strings.Repeat("x", 256) +
			`"}}}`: "properties.sandpool.image",
		`{"tags":{"a":"` + strings.Repeat("x", 257) +
			`"}}`: "tags",
		`{"tags":{"":"x"}}`: "tags",
		`{"tags":{"a":1}}`:  "tags",
		`[]`:                "",
	} {
		if r := k.do("PUT", pypool+version, body); r.status != 400 || r.err.Target != target {
			t.Errorf("%.60s: status %d, %s", body, r.status, r.body)
		}
	}
	for _, name := range []string{"ab", "1abc", "abc-", "a_b", "Abc", strings.Repeat("a", 64)} {
		if r := k.do("PUT", rg+"/"+name+version, azBody); r.status != 400 ||
			r.err.Code != "InvalidSessionPoolName" {
			t.Errorf("name %q: status %d, %s", name, r.status, r.body)
		}
	}
	if r := k.do("PUT", pypool+version, `{"x":"`+strings.Repeat("a", maxBody)+
		`"}`); r.status != 413 {
		t.Errorf("large body: status %d", r.status)
	}
	if len(k.pools.pools) != 0 {
		t.Errorf("refused requests left %d pools", len(k.pools.pools))
	}
}

func TestAllProblemsAreReportedAtOnce(t *testing.T) {
	k := newKit(t, Options{})
	r := k.want(400, k.do("PUT", pypool+version, `{"identity":{"type":"SystemAssigned"},"properties":{"containerType":"Shell","secrets":[{"name":"a b"}],
	  "scaleConfiguration":{"maxConcurrentSessions":700,"readySessionInstances":800},"dynamicPoolConfiguration":{"cooldownPeriodInSeconds":1}}}`))
	want := []string{"identity.type", "properties.containerType",
		"properties.scaleConfiguration.maxConcurrentSessions",
		"properties.scaleConfiguration.readySessionInstances",
		"properties.dynamicPoolConfiguration.cooldownPeriodInSeconds",
		"properties.secrets[0].name"}
	if d := cmp.Diff(want, targets(r.err)); d != "" {
		t.Error(d)
	}
	for _, d := range r.err.Details {
		if d.Message == "" || d.Code == "" {
			t.Errorf("detail %+v", d)
		}
	}
}

func TestWhatCannotChange(t *testing.T) {
	k := newKit(t, Options{})
	k.want(201, k.do("PUT", pypool+version, azBody))
	k.pools.pools[strings.ToLower(pypool)].pool.Spec.Kind = sandpool.CustomContainer
	for body, target := range map[string]string{
		`{"properties":{"containerType":"PythonLTS"}}`:                              "properties.containerType",
		`{"location":"elsewhere","properties":{"containerType":"CustomContainer"}}`: "location",
	} {
		for _, method := range []string{"PUT", "PATCH"} {
			r := k.do(method, pypool+version, body)
			if got := targets(r.err); r.status < 400 || got[0] != target {
				t.Errorf("%s %s: status %d, %s", method, body, r.status, r.body)
			}
		}
	}
	k.pools.pools[strings.ToLower(pypool)].pool.Spec.Kind = sandpool.PythonLTS
	k.want(200, k.do("PUT", pypool+version, strings.Replace(azBody, "northcentralus",
		"North Central US", 1)))
	if r := k.want(409, k.do("PUT", pypool+version, strings.Replace(azBody, "northcentralus",
		"eastus", 1))); r.err.Code != "InvalidResourceLocation" {
		t.Errorf("%s", r.body)
	}
}

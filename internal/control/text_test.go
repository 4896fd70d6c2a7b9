package control

import (
	"strings"
	"testing"
)

// TestNumbersAsText: az sends every number of an option without a type as text, in PUT and in
// PATCH, and null for options that were left out.
func TestNumbersAsText(t *testing.T) {
	k := newKit(t, Options{})
	k.want(201, k.do("PUT", pypool, `{"location":"x","identity":{"type":"None","userAssignedIdentities":null},"properties":{
		"containerType":"PythonLTS","poolManagementType":"Dynamic","environmentId":null,"secrets":null,"customContainerTemplate":null,
		"scaleConfiguration":{"maxConcurrentSessions":"20","readySessionInstances":"5"},
		"dynamicPoolConfiguration":{"lifecycleConfiguration":{"lifecycleType":"Timed","cooldownPeriodInSeconds":"600","maxAlivePeriodInSeconds":null}},
		"sessionNetworkConfiguration":{"status":"EgressDisabled"},"mcpServerSettings":{"isMcpServerEnabled":"False"},
		"sandpool":{"cpu":"0.5","pids":"256"}}}`))
	check := func(max, ready, cooldown int) {
		t.Helper()
		p := k.want(200, k.do("GET", pypool, "")).pool.Properties
		if *p.ScaleConfiguration.MaxConcurrentSessions != max ||
			*p.ScaleConfiguration.ReadySessionInstances != ready ||
			*p.DynamicPoolConfiguration.LifecycleConfiguration.CooldownPeriodInSeconds !=
				cooldown || *p.Sandpool.CPU != 0.5 || *p.Sandpool.PIDs != 256 {
			t.Errorf("the pool is %+v %+v %+v", p.ScaleConfiguration,
				p.DynamicPoolConfiguration.LifecycleConfiguration, p.Sandpool)
		}
	}
	check(20, 5, 600)
	k.want(200, k.do("PATCH", pypool,
		`{"properties":{"scaleConfiguration":{"maxConcurrentSessions":"30.0"},"dynamicPoolConfiguration":{"cooldownPeriodInSeconds":"300"}}}`))
	check(30, 5, 300)
	for body, target := range map[string]string{
		`{"properties":{"scaleConfiguration":{"maxConcurrentSessions":"many"}}}`:     "properties.scaleConfiguration.maxConcurrentSessions",
		`{"properties":{"scaleConfiguration":{"readySessionInstances":""}}}`:         "properties.scaleConfiguration.readySessionInstances",
		`{"properties":{"dynamicPoolConfiguration":{"cooldownPeriodInSeconds":[]}}}`: "properties.dynamicPoolConfiguration.lifecycleConfiguration.cooldownPeriodInSeconds",
		`{"properties":{"mcpServerSettings":{"isMcpServerEnabled":"maybe"}}}`:        "properties.mcpServerSettings.isMcpServerEnabled",
	} {
		if r := k.want(400, k.do("PATCH", pypool, body)); r.err.Target != target {
			t.Errorf("%s: %s", body, r.body)
		}
	}
	huge := `{"properties":{"scaleConfiguration":{"maxConcurrentSessions":` +
		strings.Repeat("9", 200<<10) + `}}}`
	for _, method := range []string{"PUT", "PATCH"} {
		if r := k.want(400, k.do(method, pypool, huge)); len(r.body) > 4<<10 {
			t.Errorf("%s: a number of 200 KB is answered with %d bytes", method, len(r.body))
		}
	}
}

package control

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
)

// TestForeignGroup: a group's tags are for those who may read something of it.
func TestForeignGroup(t *testing.T) {
	k := newKit(t, Options{})
	const group = "/subscriptions/s1/resourceGroups/"
	for _, name := range []string{"theirs", "ours"} {
		k.want(201, k.do("PUT", group+name, `{"tags":{"owner":"`+name+`"}}`))
	}
	one := k.token(auth.PoolContributor, sandpool.PoolID{Subscription: "s1", ResourceGroup: "ours",
		Name: "pypool"})
	k.want(200, k.as(one, "GET", group+"ours", ""))
	k.want(404, k.as(one, "GET", group+"theirs", ""))
	k.want(404, k.as(one, "HEAD", group+"theirs", ""))
}

// TestEnvironmentBounds: an environment keeps no secrets, and does not grow without end; nor does
// their number.
func TestEnvironmentBounds(t *testing.T) {
	k := newKit(t, Options{})
	const all = "/subscriptions/s1/resourceGroups/lab/providers/Microsoft.App/managedEnvironments/"
	body := `{"properties":{"daprAIInstrumentationKey":"hush","zoneRedundant":true,"n":12345678901234567890,
		"appLogsConfiguration":{"destination":"log-analytics",
		"logAnalyticsConfiguration":{"customerId":"c","sharedKey":"hush"}}}}`
	k.want(200, k.do("PUT", all+"env", body))
	r := k.want(200, k.do("GET", all+"env", ""))
	for _, want := range []string{`"customerId":"c"`, `"zoneRedundant":true`, "12345678901234567890"} {
		if text := string(r.body); !strings.Contains(text, want) || strings.Contains(text, "hush") {
			t.Errorf("%s is not in %s, or a secret is", want, text)
		}
	}
	large := strings.Repeat("x", 200<<10)
	k.want(200, k.do("PATCH", all+"env", fmt.Sprintf(`{"properties":{"a":%q}}`, large)))
	k.want(413, k.do("PATCH", all+"env", fmt.Sprintf(`{"properties":{"b":%q}}`, large)))
	k.want(200, k.do("PATCH", all+"env", fmt.Sprintf(`{"properties":{"a":%q}}`, large)))
	for i := range 99 {
		k.want(200, k.do("PUT", fmt.Sprintf("%se%d", all, i), "{}"))
	}
	k.want(409, k.do("PUT", all+"more", "{}"))
	k.want(200, k.do("PUT", all+"env", "{}"))
}

// TestIgnored: what a PUT has in it and pools do not know is said in its answer.
func TestIgnored(t *testing.T) {
	k := newKit(t, Options{})
	r := k.want(201, k.do("PUT", pypool, `{"kind":"x","tags":{"any":"1"},"properties":{"containerTyp":"y",
		"scaleConfiguration":{"maxConcurrentSessions":3,"min":1},"sandpool":{"ignored":["z"]}}}`))
	want := `"ignored":["kind","properties.containerTyp","properties.scaleConfiguration.min"]`
	if !strings.Contains(string(r.body), want) {
		t.Errorf("%s is not in %s", want, r.body)
	}
	for _, r := range []reply{k.want(200, k.do("GET", pypool, "")),
		k.want(200, k.do("PUT", pypool, `{"properties":{}}`))} {
		if strings.Contains(string(r.body), "ignored") {
			t.Errorf("%s", r.body)
		}
	}
	many := `{"a":1` + strings.Repeat(`,"`+strings.Repeat("b", 300)+`":1`, 1)
	for i := range 100 {
		many += fmt.Sprintf(`,"c%d":1`, i)
	}
	if r := k.want(200, k.do("PUT", pypool, many+"}")); len(r.body) > 5000 {
		t.Errorf("%d bytes", len(r.body))
	}
}

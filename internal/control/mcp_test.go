package control

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/auth"
)

// key reads the answer of an action on credentials.
func (r reply) key(t *testing.T) string {
	t.Helper()
	var got api.McpServerCredentials
	if err := json.Unmarshal(
		r.body,
		&got,
	); err != nil || !strings.HasPrefix(got.APIKey, "spk_") ||
		len(got.APIKey) < 40 {
		t.Fatalf("no key: %s", r.body)
	}
	return got.APIKey
}

// The settings are taken and shown in both spellings, and the key is made once, shown again, and
// replaced by the actions alone.
func TestMCPSettings(t *testing.T) {
	k := newKit(t, Options{})
	for _, body := range []string{
		`{"properties":{"mcpServerSettings":{"isMCPServerEnabled":true}}}`,
		`{"properties":{"mcpServerSettings":{"isMcpServerEnabled":"True","isMCPServerEnabled":true,"mcpServerEndpoint":"x"}}}`,
	} {
		r := k.do("PUT", pypool, body)
		for _, want := range []string{`"isMcpServerEnabled":true`, `"isMCPServerEnabled":true`,
			`"mcpServerEndpoint":"` + r.pool.Properties.PoolManagementEndpoint + `/mcp"`} {
			if !strings.Contains(string(r.body), want) {
				t.Errorf("%s: no %s in %s", body, want, r.body)
			}
		}
	}
	first := k.want(200, k.do("POST", pypool+"/fetchMcpServerCredentials"+version, "")).key(t)
	k.want(200, k.do("PATCH", pypool, `{"tags":{"a":"b"}}`))
	if again := k.want(200, k.do("POST", pypool+"/FETCHMCPSERVERCREDENTIALS", "")).
		key(t); again != first {
		t.Errorf("the key has changed from %s to %s", first, again)
	}
	second := k.want(200, k.do("POST", pypool+"/rotateMcpServerCredentials"+version, "")).key(t)
	third := k.want(200, k.do("POST", pypool+"/regenerateCredentials", "")).key(t)
	if now := k.want(200, k.do("POST", pypool+"/fetchMCPServerCredentials", "")).
		key(t); second == first || third == second ||
		now != third {
		t.Errorf("the keys are %s, %s, %s, and then %s", first, second, third, now)
	}
	// Either spelling of a patch meets the one setting.
	off := k.want(
		200,
		k.do("PATCH", pypool, `{"properties":{"mcpServerSettings":{"ISMCPSERVERENABLED":false}}}`),
	)
	if off.pool.Properties.McpServerSettings != nil {
		t.Errorf("still on: %s", off.body)
	}
	if r := k.want(
		400,
		k.do("POST", pypool+"/fetchMCPServerCredentials", ""),
	); r.err.Code != "SessionMCPServerNotEnabled" {
		t.Errorf("%s", r.body)
	}
	keyless := `{"properties":{"mcpServerSettings":{"isMcpServerEnabled":true,"isMcpServerApiKeyDisabled":true}}}`
	k.want(200, k.do("PATCH", pypool, keyless))
	k.want(400, k.do("POST", pypool+"/rotateMCPServerCredentials", ""))
}

// A key runs code, so it takes the right to that besides the one to the pool.
func TestWhoGetsTheKey(t *testing.T) {
	k := newKit(t, Options{})
	k.want(
		201,
		k.do("PUT", pypool, `{"properties":{"mcpServerSettings":{"isMcpServerEnabled":true}}}`),
	)
	for role, status := range map[sandpool.Role]int{auth.Admin: 200, auth.PoolContributor: 403,
		auth.SessionExecutor: 403} {
		token := k.token(
			role,
			sandpool.PoolID{Subscription: "s1", ResourceGroup: "lab", Name: "pypool"},
		)
		for _, action := range []string{"/fetchMCPServerCredentials", "/rotateMCPServerCredentials",
			"/regenerateCredentials"} {
			if r := k.as(token, "POST", pypool+action, ""); r.status != status {
				t.Errorf("%s %s: %d %s", role, action, r.status, r.body)
			}
		}
	}
}

// A custom pool may have the settings, too, and says where its endpoint is.
func TestMCPOfContainers(t *testing.T) {
	k := newKit(t, containers())
	body := strings.Replace(azContainer, `"properties":{`,
		`"properties":{"mcpServerSettings":{"isMcpServerEnabled":true},`, 1)
	r := k.want(201, k.do("PUT", pypool, body))
	if got, want := r.pool.Properties.McpServerSettings.McpServerEndpoint,
		r.pool.Properties.PoolManagementEndpoint+"/mcp"; got != want {
		t.Errorf("the endpoint is %q, want %q", got, want)
	}
	k.want(200, k.do("POST", pypool+"/fetchMCPServerCredentials", "")).key(t)
}

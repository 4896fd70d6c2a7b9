package control

import (
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
)

// Credentials and the secrets that they name are kept apart: answers have names alone, a patch
// leaves what it does not speak of, and what is wrong is named without a value.
func TestCredentials(t *testing.T) {
	k := newKit(t, Options{})
	const secret = "hunter2-of-the-api"
	const credentials = `"sandpool":{"egress":{"allow":["api.example.com:443"],"credentials":[` +
		`{"url":"https://api.example.com","header":"Authorization","prefix":"Bearer ",` +
		`"secretRef":"api"}]}}`
	r := k.want(201, k.do("PUT", pypool, `{"properties":{"secrets":[{"name":"api","value":"`+secret+
		`"}],"mcpServerSettings":{"isMcpServerEnabled":true},`+credentials+`}}`))
	if strings.Contains(string(r.body), secret) || !strings.Contains(string(r.body), `"secretRef":"api"`) ||
		strings.Contains(string(r.body), sandpool.MCPKey) {
		t.Errorf("the answer is %s", r.body)
	}
	if got := k.pools.secrets["api"].Reveal(); got != secret {
		t.Errorf("the secret is %q", got)
	}
	pool, _ := k.pools.Pool(t.Context(), sandpool.PoolID{Subscription: "s1", ResourceGroup: "lab",
		Name: "pypool"})
	if list := pool.Spec.Network.Credentials; len(list) != 1 || list[0].Prefix != "Bearer " {
		t.Errorf("the credentials are %+v", list)
	}
	r = k.want(200, k.do("PATCH", pypool,
		`{"properties":{"secrets":[{"name":"api","value":"new"}]}}`))
	if !strings.Contains(string(r.body), `"secretRef":"api"`) || k.pools.secrets["api"].Reveal() != "new" {
		t.Errorf("after a patch: %s", r.body)
	}
	if _, kept := k.pools.secrets[sandpool.MCPKey]; !kept {
		t.Error("a patch of the secrets takes the key of the MCP endpoint")
	}
	k.want(200, k.do("POST", pypool+"/rotateMCPServerCredentials", ""))
	if s, kept := k.pools.secrets["api"]; !kept || !s.IsZero() {
		t.Error("a new key of the MCP endpoint takes the other secrets")
	}
	for what, test := range map[string]struct{ properties, target string }{
		"an unknown secret": {strings.ReplaceAll(credentials, `"api"`, `"nobody"`),
			"properties.sandpool.egress.credentials[0].secretRef"},
		"the key of MCP": {strings.ReplaceAll(credentials, `"api"`, `".mcp-key"`),
			"properties.sandpool.egress.credentials[0].secretRef"},
		"a line break": {`"secrets":[{"name":"api","value":"` + secret + `\n"}],` + credentials,
			"properties.secrets"},
		"a header": {strings.ReplaceAll(credentials, "Authorization", "Host"),
			"properties.sandpool.egress.credentials[0].header"},
	} {
		r := k.want(400, k.do("PATCH", pypool, `{"properties":{`+test.properties+`}}`))
		if !strings.Contains(string(r.body), test.target) ||
			strings.Contains(string(r.body), secret) {
			t.Errorf("%s: %s", what, r.body)
		}
	}
	r = k.want(200, k.do("PATCH", pypool,
		`{"properties":{"sandpool":{"egress":{"credentials":[]}},"secrets":[]}}`))
	if strings.Contains(string(r.body), "secretRef") {
		t.Errorf("after both were taken back: %s", r.body)
	}
}

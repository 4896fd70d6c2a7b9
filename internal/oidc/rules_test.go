package oidc

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestRules is the table of what rules give to a token: the scope, or nothing.
func TestRules(t *testing.T) {
	const own = pools + "python/identifiers/{oid}:*"
	token := `{"sub":"repo:acme/site:ref:refs/heads/main","oid":"0a1b","tid":"t-1","n":7,"yes":true,
		"groups":["dev","ops"],"realm_access":{"roles":["runner"]},"https://x.example/role":"r1",
		"email":"ann@example.com","mail":"a:b","star":"*","slash":"a/b","empty":"","space":"a b",
		"object":{"a":"b"},"large":9007199254740993}`
	var c claims
	if err := json.Unmarshal([]byte(token), &c); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ claims, scope, want string }{
		{`{"tid":"t-1"}`, "/", "/"},
		{`{"tid":"t-2"}`, "/", ""},
		{`{"tid":"T-1"}`, "/", ""},
		{`{"tid":"t-1","groups":"dev"}`, own, pools + "python/identifiers/0a1b:*"},
		{`{"tid":"t-1","groups":"de"}`, own, ""},
		{`{"tid":"t-1","groups":"admins"}`, own, ""},
		{`{"groups":"d*"}`, "/", "/"},
		{`{"sub":"repo:acme/*"}`, "/", "/"},
		{`{"sub":"repo:acme2/*"}`, "/", ""},
		{`{"missing":"*"}`, "/", ""},
		{`{"empty":"*"}`, "/", ""},
		{`{"object":"*"}`, "/", ""},
		{`{"large":"*"}`, "/", ""}, // 2^53 and 2^53+1 are read as one
		{`{"n":"7","yes":"true"}`, "/", "/"},
		{`{"realm_access.roles":"runner"}`, "/", "/"},
		{`{"realm_access.roles.runner":"*"}`, "/", ""},
		{`{"https://x.example/role":"r1"}`, "/", "/"},
		{`{"email":"ann@example.com"}`, "/", ""}, // nobody has verified it
		{`{"tid":"*"}`, pools + "python/identifiers/{email}:*", ""},
		{`{"tid":"*"}`, pools + "python/identifiers/{missing}:*", ""},
		{`{"tid":"*"}`, pools + "python/identifiers/{empty}:*", ""},
		{`{"tid":"*"}`, pools + "python/identifiers/{groups}:*", ""},
		{`{"tid":"*"}`, pools + "python/identifiers/{mail}:*", ""}, // it would meet that of "a"
		{`{"tid":"*"}`, pools + "python/identifiers/{mail}.*", pools + "python/identifiers/a:b.*"},
		{`{"tid":"*"}`, pools + "python/identifiers/{star}:*", pools + "python/identifiers/%2A:*"},
		{`{"tid":"*"}`, pools + "python/identifiers/{slash}:*", pools + "python/identifiers/a%2Fb:*"},
		{`{"tid":"*"}`, pools + "python/identifiers/{space}:*", ""},
		{`{"tid":"*"}`, pools + "python/identifiers/{oid}", pools + "python/identifiers/0a1b"},
		{`{"tid":"*"}`, pools + "python/identifiers/{tid}.{oid}.*", pools + "python/identifiers/t-1.0a1b.*"},
	} {
		var conditions map[string]string
		if err := json.Unmarshal([]byte(row.claims), &conditions); err != nil {
			t.Fatal(err)
		}
		r := Rule{Claims: conditions, Role: "session-executor", Scope: row.scope}
		if bad := r.check(); len(bad) > 0 {
			t.Fatalf("%+v: %v", row, bad)
		}
		s, err := parseScope(row.scope)
		if err != nil {
			t.Fatal(err)
		}
		g, ok := rule{claims: conditions, role: "session-executor", scope: s}.grant(c)
		got := ""
		if ok {
			got = g.Scope.String()
		}
		if strings.ReplaceAll(got, "%3A", ":") != row.want {
			t.Errorf("%s at %s: %q, want %q", row.claims, row.scope, got, row.want)
		}
	}
	c["email"] = []any{"ann@example.com"}
	if c.holds("email", "ann@example.com") {
		t.Error("an address in a list is believed, though nobody has verified it")
	}
	c["email"], c["email_verified"] = "ann@example.com", true
	if !c.holds("email", "ann@example.com") {
		t.Error("an address that is verified is not believed")
	}
}

// TestValidate: each mistake is named by its field.
func TestValidate(t *testing.T) {
	good := func() Settings {
		return Settings{Issuer: "https://login.example.com", Audiences: []string{"a"},
			Rules: []Rule{{Claims: map[string]string{"sub": "*"}, Role: "admin", Scope: "/"}}}
	}
	if problems := Validate([]Settings{good()}); len(problems) > 0 {
		t.Fatal(problems)
	}
	for want, change := range map[string]func(s *Settings){
		"issuers[0].issuer is \"http://login":    func(s *Settings) { s.Issuer = "http://login.example.com" },
		"issuers[0].issuer is \"\"":              func(s *Settings) { s.Issuer = "" },
		"issuers[0].issuer is \"https://a:b@":    func(s *Settings) { s.Issuer = "https://a:b@login.example.com" },
		"issuers[0].discovery is":                func(s *Settings) { s.Discovery = "file:///etc/passwd" },
		"issuers[0].audiences is empty":          func(s *Settings) { s.Audiences = nil },
		"issuers[0].algorithms has \"HS256\"":    func(s *Settings) { s.Algorithms = []string{"HS256"} },
		"issuers[0].algorithms has \"none\"":     func(s *Settings) { s.Algorithms = []string{"none"} },
		"issuers[0].rules has 0":                 func(s *Settings) { s.Rules = nil },
		"issuers[0].rules[0].claims is empty":    func(s *Settings) { s.Rules[0].Claims = nil },
		"issuers[0].rules[0].role is not a role": func(s *Settings) { s.Rules[0].Role = "root" },
		"issuers[0].rules[0].scope is not allowed: {oid} is followed by nothing": func(s *Settings) {
			s.Rules[0].Scope = pools + "python/identifiers/{oid}*"
		},
		"scope is not allowed: {a} is followed by nothing": func(s *Settings) {
			s.Rules[0].Scope = pools + "python/identifiers/{a}{b}:*"
		},
		"scope is not allowed: {oid} is followed": func(s *Settings) {
			s.Rules[0].Scope = pools + "python/identifiers/{oid}%3A*"
		},
		"claims may stand after /identifiers/ alone": func(s *Settings) {
			s.Rules[0].Scope = pools + "{team}"
		},
		"a brace is not closed": func(s *Settings) {
			s.Rules[0].Scope = pools + "python/identifiers/{oid:*"
		},
	} {
		s := good()
		change(&s)
		problems := Validate([]Settings{s})
		if len(problems) != 1 || !strings.Contains(problems[0].Error(), want) {
			t.Errorf("want %q: %v", want, problems)
		}
	}
	if problems := Validate([]Settings{good(), good()}); len(problems) != 1 {
		t.Errorf("one issuer twice: %v", problems)
	}
}

// TestPersons: who a token is of is somebody if it has what people have, and a program else.
func TestPersons(t *testing.T) {
	for name, c := range map[string]struct {
		claims claims
		want   bool
	}{
		"Entra ID, a person":          {claims{"upn": "ann@example.com", "oid": "1"}, true},
		"Entra ID, idtyp user":        {claims{"idtyp": "user", "appid": "1"}, true},
		"Entra ID, an application":    {claims{"appid": "1", "oid": "2", "sub": "2"}, false},
		"Entra ID, idtyp app":         {claims{"idtyp": "app", "name": "ann"}, false},
		"Keycloak, a person":          {claims{"preferred_username": "ann", "azp": "web"}, true},
		"Keycloak, a client":          {claims{"preferred_username": "service-account-ci", "client_id": "ci"}, false},
		"whoever calls themselves so": {claims{"preferred_username": "service-account-ci"}, true},
		"a mail address":              {claims{"email": "a@example.com", "email_verified": true}, true},
		"an unverified one":           {claims{"email": "a@example.com"}, false},
		"Google, a service account": {claims{"azp": "1", "email_verified": true,
			"email": "ci@p.iam.gserviceaccount.com"}, false},
		"a workload": {claims{"sub": "system:serviceaccount:a:b"}, false},
	} {
		if got := c.claims.person(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

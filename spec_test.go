package sandpool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// container is a spec with something of everything that the tests change.
func container() Spec {
	return Spec{Kind: CustomContainer, Image: "app:1", Secrets: map[string]string{"key": "v1", "password": "v1"},
		Network: Network{Status: EgressEnabled, Allow: []string{"example.com"}},
		Container: &Container{Name: "app", Registry: Registry{Server: "r", Username: "u", PasswordRef: "password"},
			Command: []string{"/app"}, Args: []string{"-v"}, Env: []EnvVar{{Name: "A", SecretRef: "key"}},
			Startup:  &Probe{HTTP: HTTPProbe{Port: 80, Headers: []Header{{"X", "1"}}}},
			Liveness: &Probe{TCP: TCPProbe{Port: 80}}},
		Forwarding: Forwarding{Port: 80, Ports: []int{81}}}
}

func TestSameSandbox(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Spec)
		same   bool
	}{
		"nothing":        {func(*Spec) {}, true},
		"empty lists":    {func(s *Spec) { s.Network.Deny = []string{} }, true},
		"lifecycle":      {func(s *Spec) { s.Lifecycle = Lifecycle{Type: OnContainerExit, MaxAlive: time.Hour} }, true},
		"target port":    {func(s *Spec) { s.Forwarding.Port = 81 }, true},
		"keep headers":   {func(s *Spec) { s.Forwarding.KeepAuthorization = true }, true},
		"liveness":       {func(s *Spec) { s.Container.Liveness = nil }, true},
		"name":           {func(s *Spec) { s.Container.Name = "b" }, true},
		"credentials":    {func(s *Spec) { s.Container.Registry.Username = "v"; s.Secrets["password"] = "v2" }, true},
		"mcp":            {func(s *Spec) { s.MCP.Enabled = true; s.Secrets[MCPKey] = "v1" }, true},
		"environment id": {func(s *Spec) { s.Environment = "e" }, true},
		"unused secret":  {func(s *Spec) { s.Secrets["new"] = "v1" }, true},
		"principal":      {func(s *Spec) { s.Identity.Principal = "p" }, true},
		"audiences":      {func(s *Spec) { s.Identity.Audiences = []string{"a"} }, true},
		"identity inside": {func(s *Spec) {
			s.Identity.Principal, s.Identity.InSessions = "p", true
		}, false},
		"another's identity": {func(s *Spec) {
			s.Identity.Assigned = []AssignedIdentity{{ID: "/i", Principal: "q"}}
		}, true},
		"another's inside": {func(s *Spec) {
			s.Identity.Assigned = []AssignedIdentity{{ID: "/i", Principal: "q", InSessions: true}}
		}, false},
		"kind":            {func(s *Spec) { s.Kind = Shell }, false},
		"image":           {func(s *Spec) { s.Image = "app:2" }, false},
		"memory":          {func(s *Spec) { s.Resources.Memory = 1 }, false},
		"network":         {func(s *Spec) { s.Network.Status = EgressDisabled }, false},
		"allowed names":   {func(s *Spec) { s.Network.Allow = nil }, true},
		"warm start":      {func(s *Spec) { s.WarmStart.Mode = StartBySnapshot }, false},
		"command":         {func(s *Spec) { s.Container.Command[0] = "/b" }, false},
		"arguments":       {func(s *Spec) { s.Container.Args = nil }, false},
		"directory":       {func(s *Spec) { s.Container.Dir = "/b" }, false},
		"variable":        {func(s *Spec) { s.Container.Env[0] = EnvVar{Name: "A", Value: "1"} }, false},
		"value of secret": {func(s *Spec) { s.Secrets["key"] = "v2" }, false},
		"startup":         {func(s *Spec) { s.Container.Startup.HTTP.Headers[0].Value = "2" }, false},
		"no container":    {func(s *Spec) { s.Container = nil }, false},
	} {
		t.Run(name, func(t *testing.T) {
			before := container()
			after := before.Clone()
			test.change(&after)
			if got := before.SameSandbox(after); got != test.same {
				t.Errorf("SameSandbox = %v, want %v", got, test.same)
			}
			if got := after.SameSandbox(before); got != test.same {
				t.Errorf("SameSandbox, the other way round = %v, want %v", got, test.same)
			}
			if !before.SameSandbox(container()) {
				t.Error("the change of a clone changed the original")
			}
		})
	}
}

// However a secret is written, its text does not appear.
func TestSecretIsHidden(t *testing.T) {
	const text = "hunter2"
	type wrapped struct{ inner Secret }
	s := NewSecret(text)
	all := Secrets{"name": s}
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&b, verb+verb+verb+verb, s, &s, all, wrapped{s})
	}
	for _, v := range []any{s, &s, all, wrapped{s}, struct{ S Secrets }{all}} {
		if err := json.NewEncoder(&b).Encode(v); err != nil {
			t.Error(err)
		}
		slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&b, nil)).Info("x", "v", v)
		fmt.Fprint(&b, errors.Join(fmt.Errorf("%v", v)))
	}
	if strings.Contains(b.String(), text) || strings.Contains(b.String(), fmt.Sprintf("%x", text)) {
		t.Errorf("the secret is in %s", b.String())
	}
	if s.Reveal() != text || s.IsZero() || !(Secret{}).IsZero() || (Secret{}).Reveal() != "" {
		t.Error("Reveal or IsZero is wrong")
	}
	if !s.Equal(NewSecret(text)) || s.Equal(NewSecret("hunter3")) || s.Equal(NewSecret("h")) || NewSecret("").Equal(Secret{}) {
		t.Error("Equal is wrong")
	}
}

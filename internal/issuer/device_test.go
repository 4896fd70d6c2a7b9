package issuer

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/store"
)

// documents keeps documents in memory.
type documents struct {
	mu  sync.Mutex
	all map[string]store.Document
}

func (d *documents) Documents(_ context.Context, kind, _ string) (out []store.Document, _ error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, each := range d.all {
		if each.Kind == kind {
			out = append(out, each)
		}
	}
	return out, nil
}

func (d *documents) Document(_ context.Context, kind, key string) (store.Document, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	each, ok := d.all[kind+key]
	if !ok {
		return each, sandpool.Errorf(sandpool.NotFound, "", kind, "none")
	}
	return each, nil
}

func (d *documents) PutDocument(_ context.Context, each store.Document) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all[each.Kind+each.Key] = each
	return nil
}

func (d *documents) Agree(_ context.Context, each store.Document) (store.Document, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if kept, ok := d.all[each.Kind+each.Key]; ok {
		return kept, nil
	}
	d.all[each.Kind+each.Key] = each
	return each, nil
}

func (d *documents) DeleteDocument(_ context.Context, kind, key string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.all, kind+key)
	return nil
}

func newDeviceKit(t *testing.T) *kit {
	k := newKit(t)
	k.Approvals = &documents{all: map[string]store.Document{}}
	return k
}

// approveAs approves a code as somebody.
func (k *kit) approveAs(subject, code string) error {
	k.t.Helper()
	return k.approveBy(auth.Principal{Subject: subject, Name: "ann"}, code)
}

func (k *kit) approveBy(p auth.Principal, code string) error {
	k.t.Helper()
	r := httptest.NewRequest("POST", "/sandpool/devices", strings.NewReader(`{"userCode":"`+code+`"}`))
	r.Header.Set("Content-Type", "application/json")
	r = r.WithContext(auth.WithPrincipal(r.Context(), p))
	return k.approve(httptest.NewRecorder(), r)
}

// begin asks for codes.
func (k *kit) begin(change url.Values) (int, map[string]any) {
	k.t.Helper()
	form := url.Values{"client_id": {"app"}, "scope": {"https://management.azure.com/.default openid"}}
	for name, values := range change {
		form[name] = values
	}
	return k.ask("POST", "/adfs/oauth2/v2.0/devicecode", form)
}

func (k *kit) poll(device, client string) (int, map[string]any) {
	k.t.Helper()
	return k.ask("POST", "/adfs/oauth2/v2.0/token", url.Values{"grant_type": {deviceGrant},
		"client_id": {client}, "device_code": {device}})
}

// TestDevice: a program gets a token of who has approved its code, once, and the token ends with
// that of who has approved.
func TestDevice(t *testing.T) {
	k := newDeviceKit(t)
	status, codes := k.begin(nil)
	user, _ := codes["user_code"].(string)
	device, _ := codes["device_code"].(string)
	if status != 200 || len(user) != codeLength+1 || codes["verification_uri"] != base+DevicePage ||
		codes["interval"] != float64(pollSeconds) || !strings.Contains(codes["message"].(string), user) {
		t.Fatalf("%d %v", status, codes)
	}
	if got, body := k.poll(device, "app"); got != 400 || body["error"] != "authorization_pending" {
		t.Errorf("before: %d %v", got, body)
	}
	if err := k.approveAs("token:"+clientID, strings.ToLower(strings.Replace(user, "-", " ", 1))); err != nil {
		t.Fatal(err)
	}
	if got, body := k.poll(device, "other"); got != 400 || body["error"] != "invalid_grant" {
		t.Errorf("another client: %d %v", got, body)
	}
	// Clients of the first version call the code by another name.
	got, body := k.ask("POST", "/adfs/oauth2/token", url.Values{"grant_type": {"device_code"},
		"client_id": {"app"}, "code": {device}})
	text, _ := body["access_token"].(string)
	if got != 200 || body["token_type"] != "Bearer" || body["expires_in"] != float64(3600) {
		t.Fatalf("then: %d %v", got, body)
	}
	if err := k.verify(text); err != nil {
		t.Error(err)
	}
	if id, _ := body["id_token"].(string); id == "" || k.verify(id) == nil {
		t.Errorf("the id token %q is none, or opens the server", id)
	}
	if got, body := k.poll(device, "app"); got != 400 || body["error"] != "authorization_pending" {
		t.Errorf("twice: %d %v", got, body)
	}
	if got, body := k.ask("POST", "/adfs/oauth2/devicecode", url.Values{"client_id": {"app"},
		"resource": {Audiences()[0]}}); got != 200 || body["verification_url"] != base+DevicePage {
		t.Errorf("a client of the first version: %d %v", got, body)
	}
	k.tokens.revoked = true
	if k.verify(text) == nil {
		t.Error("the token outlives that of who has approved")
	}
}

// TestDeviceAttacks: codes that are not this server's, of another moment or of nobody.
func TestDeviceAttacks(t *testing.T) {
	k := newDeviceKit(t)
	for name, c := range map[string]struct {
		change url.Values
		code   string
	}{
		"no client":          {url.Values{"client_id": {""}}, "invalid_client"},
		"an audience":        {url.Values{"client_id": {Audiences()[0]}}, "invalid_client"},
		"a client in lines":  {url.Values{"client_id": {"a\nb"}}, "invalid_client"},
		"another's resource": {url.Values{"scope": {"https://graph.microsoft.com/.default"}}, "invalid_scope"},
	} {
		if status, body := k.begin(c.change); status != 400 || body["error"] != c.code {
			t.Errorf("%s: %d %v", name, status, body)
		}
	}
	_, codes := k.begin(nil)
	device, user := codes["device_code"].(string), codes["user_code"].(string)
	changed := []byte(device)
	changed[len(changed)/2] ^= 1
	for name, code := range map[string]string{"none": "", "noise": "x", "changed": string(changed),
		"the user's": user, "cut": device[:20], "long": strings.Repeat("A", 50_000)} {
		if status, body := k.poll(code, "app"); status != 400 || body["error"] != "invalid_grant" {
			t.Errorf("the code %s: %d %v", name, status, body)
		}
	}
	for _, code := range []string{"", "BCDFG", "AEIOU-AEIOU", user + "B", "BCDFG-HJKL1"} {
		if err := k.approveAs("token:"+clientID, code); sandpool.ClassOf(err) != sandpool.Invalid {
			t.Errorf("%q is approved: %v", code, err)
		}
	}
	if err := k.approveAs("identity:x", user); sandpool.ClassOf(err) != sandpool.Denied {
		t.Errorf("somebody without a token of the server approves: %v", err)
	}
	if err := k.approveAs("token:unknown", user); err != nil {
		t.Fatal(err)
	}
	if status, body := k.poll(device, "app"); status != 400 || body["error"] != "invalid_grant" {
		t.Errorf("whose approver has gone: %d %v", status, body)
	}
	k.now = k.now.Add(codeTime)
	if status, body := k.poll(device, "app"); status != 400 || body["error"] != "expired_token" {
		t.Errorf("too late: %d %v", status, body)
	}
	// An approval of then does not count for a code of now, and does not stay.
	_, codes = k.begin(nil)
	user = codes["user_code"].(string)
	if err := k.approveAs("token:"+clientID, user); err != nil {
		t.Fatal(err)
	}
	k.now = k.now.Add(codeTime)
	if err := k.approveAs("token:"+clientID, user); err != nil {
		t.Fatal(err)
	}
	if kept, _ := k.Approvals.Documents(t.Context(), approvalKind, ""); len(kept) != 1 {
		t.Errorf("%d approvals are kept", len(kept))
	}
}

// TestDeviceBounds: who is not known cannot make the server keep anything, or ask without end; a
// lifetime is at most what the server says.
func TestDeviceBounds(t *testing.T) {
	k := newDeviceKit(t)
	limited := false
	for range 300 {
		if status, _ := k.begin(nil); status == http.StatusTooManyRequests {
			limited = true
			break
		}
	}
	if kept, _ := k.Approvals.Documents(t.Context(), approvalKind, ""); len(kept) != 0 || !limited {
		t.Errorf("%d documents are kept; limited %v", len(kept), limited)
	}
	for text, want := range map[string]time.Duration{"": lifetime, "x": lifetime, "-5": lifetime,
		"7200": 2 * time.Hour, "9999999999": maxLifetime} {
		if got := lifetimeOf(url.Values{"lifetime": {text}}); got != want {
			t.Errorf("a lifetime of %q is %s, want %s", text, got, want)
		}
	}
	for range maxApproved - 1 {
		if err := k.Approvals.PutDocument(t.Context(), store.Document{Kind: approvalKind,
			Key: newUserCode(), Text: `{"until":"2999-01-01T00:00:00Z"}`}); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.approveAs("token:"+clientID, newUserCode()); err != nil {
		t.Error(err) // the last one
	}
	if err := k.approveAs("token:"+clientID,
		newUserCode()); sandpool.ClassOf(err) != sandpool.Unavailable {
		t.Errorf("approvals have no bound: %v", err)
	}
	seen := map[string]bool{}
	for range 1000 {
		code, ok := plainCode(newUserCode())
		if seen[code] = true; !ok {
			t.Errorf("the code %q is none", code)
		}
	}
	if len(seen) < 1000 {
		t.Errorf("of 1000 codes %d differ", len(seen))
	}
}

// TestDeviceRenewal: a JWT that was stolen does not renew itself by approving codes of its own:
// what comes of it ends when it does.
func TestDeviceRenewal(t *testing.T) {
	k := newDeviceKit(t)
	first, err := k.issue(auth.Principal{Subject: "token:" + clientID}, base+"/adfs",
		Audiences()[0], lifetime, "")
	if err != nil {
		t.Fatal(err)
	}
	renew := func(text string) (int, map[string]any) {
		t.Helper()
		p, err := k.Verify(t.Context(), auth.Credential{Kind: auth.Bearer, Text: text})
		if err != nil {
			t.Fatal(err)
		}
		_, codes := k.begin(url.Values{"lifetime": {"43200"}})
		if err := k.approveBy(p, codes["user_code"].(string)); err != nil {
			t.Fatal(err)
		}
		return k.poll(codes["device_code"].(string), "app")
	}
	k.now = k.now.Add(50 * time.Minute)
	status, body := renew(first)
	if status != 200 || body["expires_in"] != float64(600) {
		t.Errorf("with ten minutes left: %d %v", status, body)
	}
	second, _ := body["access_token"].(string)
	k.now = k.now.Add(10*time.Minute + skew/2) // it is still taken, as clocks differ
	if status, body := renew(second); status != 400 || body["error"] != "invalid_grant" {
		t.Errorf("at its end: %d %v", status, body)
	}
	k.now = k.now.Add(skew)
	if k.verify(second) == nil {
		t.Error("what came of a token outlives it")
	}
}

// TestDeviceCrowd: who approves codes that nobody has asked for keeps nobody else from signing in.
func TestDeviceCrowd(t *testing.T) {
	k := newDeviceKit(t)
	refused := false
	for range maxApproved {
		if k.approveAs("token:mallory", newUserCode()) != nil {
			refused = true
			break
		}
	}
	if err := k.approveAs("token:"+clientID, newUserCode()); err != nil || !refused {
		t.Errorf("another: %v; refused %v", err, refused)
	}
}

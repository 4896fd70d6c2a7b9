package issuer

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/store"
)

// visitors are those of a foreign issuer, by the texts of their tokens.
type visitors map[string]auth.Principal

func (v visitors) Recognizes(c auth.Credential) bool { return strings.HasPrefix(c.Text, "foreign") }

func (v visitors) Verify(_ context.Context, c auth.Credential) (auth.Principal, error) {
	p, ok := v[c.Text]
	if !ok {
		return p, refused()
	}
	return p, nil
}

// approveWith approves a code as whoever shows a token.
func (k *kit) approveWith(text string, p auth.Principal, code string) error {
	k.t.Helper()
	r := httptest.NewRequest("POST", "/sandpool/devices",
		strings.NewReader(`{"userCode":"`+code+`"}`))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+text)
	r = r.WithContext(auth.WithPrincipal(r.Context(), p))
	return k.approve(httptest.NewRecorder(), r)
}

// TestVisitorApproves: somebody of a foreign issuer lets a program sign in, which then may what
// their token may, by what the issuer's rules give now, and no longer than that is good. The
// program does not learn that token.
func TestVisitorApproves(t *testing.T) {
	k := newDeviceKit(t)
	ann := auth.Principal{Subject: "oidc:https://x#ann", Name: "ann", Person: true,
		Grants: []sandpool.Grant{{Role: auth.Reader}}, Ends: k.now.Add(20 * time.Minute)}
	known := visitors{"foreign-ann": ann}
	k.Foreign = known
	signIn := func(text string, p auth.Principal) string {
		t.Helper()
		_, codes := k.begin(nil)
		if err := k.approveWith(text, p, codes["user_code"].(string)); err != nil {
			t.Fatal(err)
		}
		for _, d := range k.Approvals.(*documents).all {
			if strings.Contains(d.Text, "foreign-ann") {
				t.Error("the approval is kept with the visitor's token in plain text")
			}
		}
		status, body := k.poll(codes["device_code"].(string), "app")
		got, _ := body["access_token"].(string)
		if status != 200 || body["expires_in"] != float64(20*60) {
			t.Fatalf("%d %v", status, body)
		}
		if id, _ := body["id_token"].(string); id == "" || k.verify(id) == nil {
			t.Error("the id token opens the API")
		}
		return got
	}
	text := signIn("foreign-ann", ann)
	who := func(text string) (auth.Principal, error) {
		c := auth.Credential{Kind: auth.Bearer, Text: text}
		if !k.Recognizes(c) {
			t.Fatal("the token is not known")
		}
		return k.Verify(t.Context(), c)
	}
	p, err := who(text)
	if err != nil || p.Subject != ann.Subject || len(p.Grants) != 1 || !p.Person ||
		!p.Ends.Equal(ann.Ends) {
		t.Errorf("the program is %+v, %v", p, err)
	}
	again := signIn(text, p) // what it got is worth as much
	ann.Grants = nil
	known["foreign-ann"] = ann
	for _, each := range []string{text, again} {
		if p, err := who(each); err != nil || len(p.Grants) != 0 {
			t.Errorf("after the rules changed it has %v, %v", p.Grants, err)
		}
	}
	k.Approvals = &documents{all: map[string]store.Document{}}
	known["foreign-ann"] = auth.Principal{Subject: "oidc:https://x#bob"}
	if _, err := who(text); sandpool.ClassOf(err) != sandpool.Unauthenticated {
		t.Errorf("a token of another subject: %v", err)
	}
	delete(known, "foreign-ann")
	if _, err := who(text); sandpool.ClassOf(err) != sandpool.Unauthenticated {
		t.Errorf("after the visitor's token has ended: %v", err)
	}
	k.Foreign = nil
	if _, err := who(text); sandpool.ClassOf(err) != sandpool.Unauthenticated {
		t.Errorf("without foreign issuers: %v", err)
	}
}

// TestVisitorMayNot: no token of another kind, without an end, or too long for a header is lent.
func TestVisitorMayNot(t *testing.T) {
	k := newDeviceKit(t)
	_, codes := k.begin(nil)
	long := "foreign-" + strings.Repeat("x", maxVia)
	ann := auth.Principal{Subject: "oidc:https://x#ann", Name: "ann", Ends: k.now.Add(time.Hour)}
	endless := ann
	endless.Ends = time.Time{}
	try := func(what, text string, p auth.Principal) {
		t.Helper()
		if err := k.approveWith(text, p, codes["user_code"].(string)); sandpool.ClassOf(err) !=
			sandpool.Denied {
			t.Errorf("%s: %v", what, err)
		}
	}
	try("without foreign issuers", "foreign-ann", ann)
	k.Foreign = visitors{"foreign-ann": ann, long: ann}
	try("the key of a pool", "key", auth.Principal{Subject: "key:python"})
	try("a token without an end", "foreign-ann", endless)
	try("a long token", long, ann)
	try("another token than the principal's kind", k.token(), ann)
	// Nobody puts a sealed token into another's JWT.
	sealed := k.keys.sealed([]byte("foreign-ann"), about())
	text, err := k.issue(ann, base+"/adfs", Audiences()[0], lifetime, sealed)
	if err != nil || k.verify(text) == nil {
		t.Errorf("what was sealed as something else is a token (%v)", err)
	}
	own, err := k.issue(auth.Principal{Subject: subjectPrefix + clientID}, base+"/adfs",
		Audiences()[0], lifetime, k.keys.sealed([]byte("foreign-ann"), aboutVia()))
	if err != nil || k.verify(own) == nil {
		t.Errorf("a token of the server with another's in it counts (%v)", err)
	}
}

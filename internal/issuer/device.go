package issuer

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/store"
)

// The device code flow (RFC 8628) signs in a program that has no browser:
//
//	program ── devicecode ──▶ server        gets a device code, and a user code to show
//	person  ── user code ───▶ server        who has signed in, and so approves
//	program ── token ───────▶ server        asks until that has happened
//
// A device code is sealed by the issuer and holds all that was asked for, so that nothing is kept
// for those who only ask. What was approved is kept, by its user code, for as long as the codes are
// good. What the program gets is a token of the person's own token: it may what that may, and ends
// with it. Who approves with a JWT gives no more time than it has left: it would renew itself.
const (
	// codeTime is how long codes are good.
	codeTime = 15 * time.Minute
	// pollSeconds is the pause between two questions.
	pollSeconds = 5
	// maxLifetime bounds what a program may ask for.
	maxLifetime = 12 * time.Hour
	// codeLetters are those of user codes: no vowels, so no words, and none that look alike
	// (RFC 8628, section 6.1). codeLength of them are 43 bits.
	codeLetters = "BCDFGHJKLMNPQRSTVWXZ"
	codeLength  = 10
	// maxApproved bounds the approvals that nobody has come for, and maxOwn those of one subject,
	// who could otherwise keep all others from signing in.
	maxApproved = 1000
	maxOwn      = 20
	// approvalKind is the kind of the documents of approvals.
	approvalKind = "deviceCode"
	// DevicePage is where people approve, below the server's address.
	DevicePage = "/ui/device"
)

// asked is what a device code holds.
type asked struct {
	User     string        `json:"user"` // the user code, without its hyphen
	Client   string        `json:"client"`
	Audience string        `json:"audience"`
	Scope    string        `json:"scope"`
	Lifetime time.Duration `json:"lifetime"`
	Until    time.Time     `json:"until"`
}

// approval is a document: who has approved a code, until when it counts.
type approval struct {
	Subject string    `json:"subject"`
	Until   time.Time `json:"until"`
	Ends    time.Time `json:"ends,omitzero"` // that of who has approved
	// Via is the token of who has approved, sealed, if it is a foreign issuer's.
	Via string `json:"via,omitempty"`
}

// about is authenticated with a device code.
func about() []byte { return []byte("device code") }

// newUserCode makes a user code.
func newUserCode() string {
	var b strings.Builder
	for b.Len() < codeLength {
		var one [1]byte
		_, _ = rand.Read(one[:])       // never fails since Go 1.24
		if n := int(one[0]); n < 240 { // the most that is a multiple of the letters
			b.WriteByte(codeLetters[n%len(codeLetters)])
		}
	}
	return b.String()
}

// plainCode is a user code as it is kept, whatever the person has typed between its letters.
func plainCode(s string) (string, bool) {
	s = strings.ToUpper(strings.NewReplacer("-", "", " ", "").Replace(s))
	return s, len(s) == codeLength && strings.Trim(s, codeLetters) == ""
}

// isClient reports whether a program may call itself s. No audience is such a name, so an id token
// opens nothing here.
func isClient(s string) bool {
	return s != "" && len(s) <= 100 && strings.IndexFunc(s, func(c rune) bool {
		return !strings.ContainsRune("-._", c) && (c < '0' || c > '9') && (c < 'a' || c > 'z') &&
			(c < 'A' || c > 'Z')
	}) < 0
}

// device answers a request for codes.
func (i *Issuer) device(w http.ResponseWriter, r *http.Request) {
	form, ok := readForm(w, r)
	if !ok {
		return
	}
	client, wanted := form.Get("client_id"), scopeOf(form)
	audience, ok := i.audience(r, wanted)
	switch {
	case i.Approvals == nil:
		oauthError(w, http.StatusBadRequest, "unsupported_grant_type",
			"This server has no page on which a code is approved.")
		return
	case !isClient(client):
		oauthError(w, http.StatusBadRequest, "invalid_client",
			"The client_id %.60q is not allowed; use letters, digits, - . and _.", client)
		return
	case !ok:
		i.wrongScope(w, wanted)
		return
	case !i.devices.Allow():
		w.Header().Set("Retry-After", "1")
		oauthError(w, http.StatusTooManyRequests, "slow_down", "Too many codes are asked for.")
		return
	}
	a := asked{User: newUserCode(), Client: client, Audience: audience, Scope: wanted,
		Lifetime: lifetimeOf(form), Until: i.now().Add(codeTime)}
	text, err := json.Marshal(a)
	if err != nil {
		oauthError(w, http.StatusInternalServerError, "server_error", "No code could be made.")
		return
	}
	code := a.User[:codeLength/2] + "-" + a.User[codeLength/2:]
	page := i.baseURL(r) + DevicePage
	answer(w, http.StatusOK, api.DeviceCode{UserCode: code,
		DeviceCode:      i.keys.sealed(text, about()),
		VerificationURI: page, VerificationURL: page,
		VerificationURIComplete: page + "?user_code=" + code,
		ExpiresIn:               int(codeTime / time.Second), Interval: pollSeconds,
		Message: fmt.Sprintf("To sign in, open %s and enter the code %s.", page, code)})
}

// lifetimeOf is what a program asks for its token, in seconds.
func lifetimeOf(form url.Values) time.Duration {
	seconds, err := strconv.Atoi(form.Get("lifetime"))
	if err != nil || seconds < 60 {
		return lifetime
	}
	return time.Duration(min(seconds, int(maxLifetime/time.Second))) * time.Second
}

func scopeOf(form url.Values) string {
	if s := form.Get("scope"); s != "" {
		return s
	}
	return form.Get("resource")
}

// openDevice reads a device code.
func (i *Issuer) openDevice(code string) (a asked, ok bool) {
	text, ok := i.keys.unsealed(code, about())
	ok = ok && json.Unmarshal(text, &a) == nil
	return a, ok
}

// byDevice answers a program that asks whether its code has been approved.
func (i *Issuer) byDevice(w http.ResponseWriter, r *http.Request, form url.Values) {
	code := form.Get("device_code")
	if code == "" {
		code = form.Get("code") // clients of the first version
	}
	a, ok := i.openDevice(code)
	switch {
	case !ok || i.Approvals == nil || a.Client != form.Get("client_id"):
		oauthError(w, http.StatusBadRequest, "invalid_grant",
			"The device code is not one of this server, or another client's.")
		return
	case !i.now().Before(a.Until):
		oauthError(w, http.StatusBadRequest, "expired_token",
			"The code has not been approved in time. Begin anew.")
		return
	case !i.polls.Allow():
		oauthError(w, http.StatusBadRequest, "slow_down", "Too many programs ask; ask later.")
		return
	}
	by, err := i.approved(r.Context(), a.User)
	if sandpool.ClassOf(err) == sandpool.NotFound {
		oauthError(w, http.StatusBadRequest, "authorization_pending",
			"Nobody has approved the code yet.")
		return
	}
	if err != nil {
		unavailable(w)
		return
	}
	i.grant(w, r, by, a)
}

// grant answers with tokens of the principal who has approved.
func (i *Issuer) grant(w http.ResponseWriter, r *http.Request, by approval, a asked) {
	p, err := i.holder(r.Context(), by.Subject, by.Via)
	if err != nil && sandpool.ClassOf(err) == sandpool.Unavailable {
		unavailable(w)
		return
	}
	left := a.Lifetime
	if !by.Ends.IsZero() {
		left = min(left, by.Ends.Sub(i.now()).Truncate(time.Second))
	}
	if err != nil || left <= 0 {
		oauthError(w, http.StatusBadRequest, "invalid_grant",
			"The token of who has approved has ended. Begin anew.")
		return
	}
	issuer := i.baseURL(r) + "/adfs"
	out := map[string]any{"token_type": "Bearer", "scope": a.Scope,
		"expires_in": int(left / time.Second)}
	if out["access_token"], err = i.issue(p, issuer, a.Audience, left, by.Via); err == nil &&
		slices.Contains(strings.Fields(a.Scope), "openid") {
		out["id_token"], err = i.issue(p, issuer, a.Client, left, "")
	}
	if err != nil {
		oauthError(w, http.StatusInternalServerError, "server_error",
			"The token could not be signed.")
		return
	}
	answer(w, http.StatusOK, out)
}

// approved takes the approval of a code. One that there is not is an error of class NotFound.
func (i *Issuer) approved(ctx context.Context, code string) (a approval, err error) {
	d, err := i.Approvals.Document(ctx, approvalKind, code)
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal([]byte(d.Text), &a); err != nil {
		return a, fmt.Errorf("approval of a device code: %w", err)
	}
	if err := i.Approvals.DeleteDocument(ctx, approvalKind, code); err != nil {
		return a, err
	}
	if !i.now().Before(a.Until) {
		return a, sandpool.Errorf(sandpool.NotFound, "", "", "The approval has ended.")
	}
	return a, nil
}

// approve lets the program that shows a code have a token of the caller's.
func (i *Issuer) approve(w http.ResponseWriter, r *http.Request) error {
	var body api.DeviceApproval
	if err := arm.DecodeJSON(w, r, maxForm, &body); err != nil {
		return err
	}
	code, ok := plainCode(body.UserCode)
	if !ok {
		return sandpool.Errorf(sandpool.Invalid, "InvalidUserCode", "userCode",
			"%.40q is no code that a program shows; those have two times %d letters.",
			body.UserCode, codeLength/2)
	}
	p, _ := auth.FromContext(r.Context())
	via, err := i.via(r, p)
	if err != nil {
		return err
	}
	if err := i.room(r.Context(), p.Subject); err != nil {
		return err
	}
	text, err := json.Marshal(approval{Subject: p.Subject, Until: i.now().Add(codeTime),
		Ends: p.Ends, Via: via})
	if err != nil {
		return err
	}
	if err := i.Approvals.PutDocument(r.Context(), store.Document{Kind: approvalKind, Key: code,
		Text: string(text)}); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// maxVia bounds a token of a foreign issuer that another one is to stand for: sealed and signed it
// is twice as long, and is sent in one header.
const maxVia = 8 << 10

// via is the token with which a visitor of a foreign issuer approves, sealed; "" for one with a
// token of the server. A program's token that stands for such a one is worth as much.
func (i *Issuer) via(r *http.Request, p auth.Principal) (string, error) {
	if strings.HasPrefix(p.Subject, subjectPrefix) {
		return "", nil
	}
	_, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	c := auth.Credential{Kind: auth.Bearer, Text: strings.TrimSpace(text)}
	if t, err := jwt.ParseSigned(c.Text, []jose.SignatureAlgorithm{jose.ES256}); i.Recognizes(c) &&
		err == nil {
		var got claims
		if t.UnsafeClaimsWithoutVerification(&got) == nil && got.Via != "" {
			return got.Via, nil // the request would not be here if it were not signed
		}
	}
	switch {
	case i.Foreign == nil || !i.Foreign.Recognizes(c) || p.Ends.IsZero():
		return "", sandpool.Errorf(sandpool.Denied, "AuthorizationFailed", "",
			"%q (%s) may not let a program sign in: that takes a token of this server, or of an "+
				"issuer that it names.", p.Name, p.Subject)
	case len(c.Text) > maxVia:
		return "", sandpool.Errorf(sandpool.Denied, "TokenTooLarge", "",
			"The token of %q has %d bytes, of at most %d with which a program is let sign in. Have "+
				"its issuer say less, such as fewer groups.", p.Name, len(c.Text), maxVia)
	}
	return i.keys.sealed([]byte(c.Text), aboutVia()), nil
}

// room forgets approvals whose time is over, and refuses another one if there are too many, or too
// many of the subject.
func (i *Issuer) room(ctx context.Context, subject string) error {
	if i.Approvals == nil {
		return sandpool.Errorf(sandpool.Unsupported, "DeviceCodesNotSupported", "userCode",
			"This server has no device codes.")
	}
	all, err := i.Approvals.Documents(ctx, approvalKind, "")
	if err != nil {
		return err
	}
	left, own := 0, 0
	for _, d := range all {
		var a approval
		if json.Unmarshal([]byte(d.Text), &a) == nil && i.now().Before(a.Until) {
			if left++; a.Subject == subject {
				own++
			}
			continue
		}
		if err := i.Approvals.DeleteDocument(ctx, d.Kind, d.Key); err != nil {
			return err
		}
	}
	if left >= maxApproved || own >= maxOwn {
		return &sandpool.Error{Class: sandpool.Unavailable, Code: "TooManyDeviceCodes",
			RetryAfter: time.Minute,
			Message:    "Too many codes are approved that nobody has come for. Try again later."}
	}
	return nil
}

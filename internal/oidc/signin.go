package oidc

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
)

const (
	// signInTime is how long somebody may be at the issuer's pages.
	signInTime = 10 * time.Minute
	// exchangeTime bounds what the issuer is asked while a browser waits.
	exchangeTime = 12 * time.Second
	// codeTime bounds the exchange of a code alone, for which others wait.
	codeTime = 5 * time.Second
	// maxExchanges bounds how many sign-ins ask one issuer at a time. Each has shown nothing yet
	// but that it was begun here.
	maxExchanges = 32
	// maxCode and maxToken bound what comes from an issuer and is passed on.
	maxCode  = 4 << 10
	maxToken = 15 << 10
)

// SignIn lets people sign in with one issuer: the authorization code flow of OpenID Connect, with
// PKCE. Nothing is kept here for those who have begun.
type SignIn struct {
	v         *Verifier
	i         *issuer
	redirect  string
	sealer    cipher.AEAD
	exchanges chan struct{}
}

// begun is what a browser keeps while its holder is at the issuer's pages, sealed, so that what it
// comes back with counts in this browser alone, once with this state, and for this issuer.
type begun struct {
	Name     string    `json:"name"`
	State    string    `json:"state"`
	Nonce    string    `json:"nonce"`
	Verifier string    `json:"verifier"`
	To       string    `json:"to"`
	Until    time.Time `json:"until"`
}

// Visitor is somebody who has signed in.
type Visitor struct {
	// Token is what they show to the API, and Ends when it does. It is empty for somebody without
	// any role.
	Token string
	Ends  time.Time
	// Subject and Name are those of their principal.
	Subject, Name string
	// To is what Begin was given.
	To string
	// Remedy is what gives somebody without any role one.
	Remedy Remedy
}

// Remedy is a command, or else an entry of the issuer's rules.
type Remedy struct{ Command, Rule string }

// SignIns returns how people sign in, in the order of the settings. base is the dashboard's sign-in
// page, at the one address by which issuers know this server; nothing of a request is used for it.
func (v *Verifier) SignIns(all []Settings, base string) ([]*SignIn, error) {
	var out []*SignIn
	for _, s := range all {
		if s.SignIn == nil {
			continue
		}
		key := make([]byte, 32)
		_, _ = rand.Read(key) // never fails since Go 1.24
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		sealer, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, err
		}
		if _, err := s.SignIn.secret(); err != nil {
			return nil, fmt.Errorf("the issuer %s: %w", s.Issuer, err)
		}
		out = append(out, &SignIn{v: v, i: v.issuers[s.Issuer], sealer: sealer,
			redirect: base + "/" + s.SignIn.Name, exchanges: make(chan struct{}, maxExchanges)})
	}
	return out, nil
}

// Name is the issuer's in addresses.
func (s *SignIn) Name() string { return s.i.SignIn.Name }

// Title is the issuer's for people.
func (s *SignIn) Title() string { return s.i.SignIn.title(s.i.Issuer) }

// Begin returns the issuer's address to go to, and what the browser is to keep until it comes back.
// to is given back by Finish.
func (s *SignIn) Begin(ctx context.Context, to string) (address, kept string, err error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTime)
	defer cancel()
	conf, _, err := s.config(ctx)
	if err != nil {
		return "", "", err
	}
	b := begun{Name: s.Name(), State: rand.Text(), Nonce: rand.Text(), To: to,
		Verifier: oauth2.GenerateVerifier(), Until: s.v.now().Add(signInTime)}
	text, err := json.Marshal(b)
	if err != nil {
		return "", "", err
	}
	return conf.AuthCodeURL(b.State, oauth2.SetAuthURLParam("nonce", b.Nonce),
			oauth2.S256ChallengeOption(b.Verifier)),
		base64.RawURLEncoding.EncodeToString(s.sealer.Seal(nil, nil, text, nil)), nil
}

// config is the client of the issuer, by what that says of itself.
func (s *SignIn) config(ctx context.Context) (oauth2.Config, configuration, error) {
	says, err := s.i.keys.configuration(ctx)
	for _, address := range []string{says.Authorize, says.Token} {
		if err == nil {
			plain, _, _ := strings.Cut(address, "?") // some tell their policies apart by a query
			err = checkURL(plain)
		}
	}
	if err != nil {
		return oauth2.Config{}, says, s.unavailable(err)
	}
	secret, err := s.i.SignIn.secret()
	if err != nil {
		return oauth2.Config{}, says, s.unavailable(err)
	}
	style := oauth2.AuthStyleInHeader
	if secret == "" || slices.Contains(says.Methods, "client_secret_post") &&
		!slices.Contains(says.Methods, "client_secret_basic") {
		style = oauth2.AuthStyleInParams
	}
	return oauth2.Config{ClientID: s.i.SignIn.ClientID, ClientSecret: secret,
		RedirectURL: s.redirect, Scopes: s.i.SignIn.scopes(),
		Endpoint: oauth2.Endpoint{AuthURL: says.Authorize, TokenURL: says.Token,
			AuthStyle: style}}, says, nil
}

// Finish signs in by what the issuer has sent the browser back with, and what the browser has kept.
// An error of class Unauthenticated means that nobody has signed in, one of class Unavailable that
// it may work later.
func (s *SignIn) Finish(ctx context.Context, kept string, answer url.Values) (Visitor, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTime)
	defer cancel()
	b, err := s.open(kept, answer)
	if err != nil {
		return Visitor{}, err
	}
	conf, says, err := s.config(ctx)
	if err != nil {
		return Visitor{}, err
	}
	if named := answer.Get("iss"); named != s.i.Issuer && (named != "" || says.NamesItself) {
		return Visitor{}, failed("The answer is not of the issuer that was asked.")
	}
	if code := answer.Get("error"); code != "" {
		return Visitor{}, failed(wording(code, answer.Get("error_description")))
	}
	code := answer.Get("code")
	if code == "" || len(code) > maxCode {
		return Visitor{}, failed("The issuer's answer has no code.")
	}
	idToken, access, err := s.exchange(ctx, conf, code, b.Verifier)
	if err != nil {
		return Visitor{}, err
	}
	return s.enter(ctx, b, idToken, access)
}

// open reads what the browser has kept, and reports an answer that does not belong to it.
func (s *SignIn) open(kept string, answer url.Values) (b begun, err error) {
	sealed, err := base64.RawURLEncoding.DecodeString(kept)
	if err == nil {
		var text []byte
		if text, err = s.sealer.Open(nil, nil, sealed, nil); err == nil {
			err = json.Unmarshal(text, &b)
		}
	}
	same := subtle.ConstantTimeCompare([]byte(b.State), []byte(answer.Get("state"))) == 1
	if err != nil || b.Name != s.Name() || !same || !s.v.now().Before(b.Until) {
		return b, failed("This sign-in was not begun in this browser, or more than ten minutes " +
			"ago.")
	}
	for name, values := range answer {
		if len(values) > 1 {
			return b, failed(fmt.Sprintf("The issuer's answer has %.20q more than once.", name))
		}
	}
	return b, nil
}

// exchange gives the code to the issuer and returns its tokens.
func (s *SignIn) exchange(ctx context.Context, conf oauth2.Config, code,
	verifier string) (idToken, access string, err error) {
	select { // those who wait come in turn, so codes that are false keep nobody out for long
	case s.exchanges <- struct{}{}:
		defer func() { <-s.exchanges }()
	case <-ctx.Done():
		return "", "", &sandpool.Error{Class: sandpool.Unavailable, RetryAfter: time.Second,
			Message: "Many people sign in at the moment. Try again."}
	}
	ctx, cancel := context.WithTimeout(ctx, codeTime)
	defer cancel()
	t, err := conf.Exchange(context.WithValue(ctx, oauth2.HTTPClient, s.i.client), code,
		oauth2.VerifierOption(verifier))
	var no *oauth2.RetrieveError
	if errors.As(err, &no) && no.ErrorCode != "" && no.Response.StatusCode < 500 {
		s.v.log.Warn("an issuer refuses a sign-in", "issuer", s.i.Issuer,
			"error", fmt.Sprintf("%.60q %.200q", no.ErrorCode, no.ErrorDescription))
		if no.ErrorCode == "invalid_client" || no.ErrorCode == "unauthorized_client" {
			return "", "", failed("The issuer does not accept this server as a client: its " +
				"client_id or its secret is wrong. The operator of this server can mend that.")
		}
		return "", "", failed("The issuer refuses the code that it has given.")
	}
	if errors.As(err, &no) { // its text is all that the issuer has answered
		err = fmt.Errorf("the token endpoint answers with status %d", no.Response.StatusCode)
	}
	if err != nil {
		return "", "", s.unavailable(err)
	}
	idToken, _ = t.Extra("id_token").(string)
	switch {
	case idToken == "":
		return "", "", s.unavailable(errors.New("the answer has no id_token"))
	case len(idToken) > maxToken || len(t.AccessToken) > maxToken && !s.i.byIDToken():
		return "", "", failed(fmt.Sprintf("The issuer's token has more than %d bytes. Have it "+
			"say less, such as fewer groups.", maxToken))
	}
	return idToken, t.AccessToken, nil
}

// enter returns whose tokens these are, if they are the answer to what was begun.
func (s *SignIn) enter(ctx context.Context, b begun, idToken, access string) (Visitor, error) {
	if says(idToken) != s.i.Issuer {
		return Visitor{}, failed("The ID token is not the issuer's.")
	}
	got, err := s.v.check(ctx, s.i, idToken, []string{s.i.SignIn.ClientID})
	if err != nil {
		return Visitor{}, err
	}
	nonce, _ := got.all["nonce"].(string)
	if subtle.ConstantTimeCompare([]byte(nonce), []byte(b.Nonce)) != 1 {
		return Visitor{}, failed("The ID token was made for another sign-in.")
	}
	text := idToken
	if !s.i.byIDToken() {
		text = access
		if says(text) != s.i.Issuer {
			return Visitor{}, failed("The access token is not a JSON Web Token of the issuer. " +
				"The operator can set sign_in.token to id, or ask for a scope whose tokens are.")
		}
		id := got.Subject
		if got, err = s.v.check(ctx, s.i, text, s.i.Audiences); err != nil {
			return Visitor{}, err
		}
		if got.Subject != id {
			return Visitor{}, failed("The issuer's two tokens are of two people.")
		}
	}
	p, err := s.v.Verify(ctx, auth.Credential{Kind: auth.Bearer, Text: text})
	if err != nil {
		return Visitor{}, err
	}
	p = p.At(s.v.now())
	out := Visitor{Subject: p.Subject, Name: p.Name, To: b.To, Ends: got.Expiry.Time()}
	if len(p.Grants) == 0 {
		out.Remedy = s.i.remedy(got)
		return out, nil
	}
	out.Token = text
	return out, nil
}

// remedy is what gives the holder of a token without any role one.
func (i *issuer) remedy(t verified) Remedy {
	if id := scalar(t.all["oid"]); i.RoleAssignments && id != "" {
		return Remedy{Command: "sandpool role assign " + id + " session-executor --pool POOL"}
	}
	sub, err := json.Marshal(t.Subject)
	if err != nil {
		return Remedy{} // a string has a form in JSON
	}
	return Remedy{Rule: fmt.Sprintf("- claims: {sub: %s}\n  role: session-executor\n  scope: "+
		"/subscriptions/S/resourceGroups/G/providers/Microsoft.App/sessionPools/POOL", sub)}
}

func (s *SignIn) unavailable(err error) error {
	s.v.log.Warn("an issuer signs nobody in", "issuer", s.i.Issuer, "error", err)
	return &sandpool.Error{Class: sandpool.Unavailable, RetryAfter: pause, Err: err,
		Message: fmt.Sprintf("%s cannot be reached at the moment, or does not answer as an issuer "+
			"does. Try again; the server's log says more.", s.Title())}
}

func failed(why string) error {
	return sandpool.Errorf(sandpool.Unauthenticated, "SignInFailed", "", "%s Begin again.", why)
}

// wording is what is said of an error that the issuer sends the browser back with.
func wording(code, description string) string {
	if code == "access_denied" {
		return "The sign-in was cancelled, or the issuer does not let you in."
	}
	text := fmt.Sprintf("The issuer answers with the error %.60q", code)
	if description != "" {
		text += fmt.Sprintf(": %.300q", description)
	}
	return text + "."
}

// SignInSettings are how people sign in with an issuer.
type SignInSettings struct {
	// Name is the issuer's in addresses: letters in lower case, digits and hyphens.
	Name string `yaml:"name"`
	// Title is the issuer's on the sign-in page; empty means its host.
	Title string `yaml:"title"`
	// ClientID is what the issuer calls this server.
	ClientID string `yaml:"client_id"`
	// ClientSecretFile holds the client's secret; empty means that it has none.
	ClientSecretFile string `yaml:"client_secret_file"`
	// Scopes are asked for beside openid; empty means profile and email.
	Scopes []string `yaml:"scopes"`
	// Token is which of the issuer's tokens says what the holder may do: id, or access, which must
	// be a JSON Web Token for one of the Audiences. Empty means id.
	Token string `yaml:"token"`
}

// maxTitle bounds a title.
const maxTitle = 60

// check reports what is wrong. names are those of the issuers before, to which it adds its own.
func (s *SignInSettings) check(names map[string]bool) (problems []ruleError) {
	bad := func(field, fix string) { problems = append(problems, ruleError{field, fix}) }
	switch {
	case !isSlug(s.Name):
		bad("name", fmt.Sprintf("is %.40q; use 1 to 40 letters in lower case, digits and hyphens, "+
			"such as keycloak", s.Name))
	case names[s.Name]:
		bad("name", fmt.Sprintf("is %q as another one's; answers of the two could be mixed up",
			s.Name))
	}
	names[s.Name] = true
	if !isName(s.ClientID) {
		bad("client_id", "is empty or not printable; use what the issuer calls this server")
	}
	if s.Title != "" && (!isName(s.Title) || len(s.Title) > maxTitle) {
		bad("title", fmt.Sprintf("is %.80q; use at most %d printable characters", s.Title,
			maxTitle))
	}
	if s.Token != "" && s.Token != "id" && s.Token != "access" {
		bad("token", fmt.Sprintf("is %.40q; use id or access", s.Token))
	}
	for _, scope := range s.Scopes {
		if !isName(scope) || strings.ContainsAny(scope, " \"\\") {
			bad("scopes", fmt.Sprintf("has %.80q; use one scope for each entry", scope))
		}
	}
	return problems
}

func isSlug(s string) bool {
	return s != "" && len(s) <= 40 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// SignsIn reports whether people can sign in with one of the issuers.
func SignsIn(all []Settings) bool {
	return slices.ContainsFunc(all, func(s Settings) bool { return s.SignIn != nil })
}

// byIDToken reports whether an ID token says what those who sign in may do.
func (s Settings) byIDToken() bool { return s.SignIn != nil && s.SignIn.Token != "access" }

// forWhom are the audiences of the tokens that are accepted: an ID token is for the client.
func (s Settings) forWhom() []string {
	if !s.byIDToken() {
		return s.Audiences
	}
	return append(slices.Clip(s.Audiences), s.SignIn.ClientID)
}

func (s *SignInSettings) title(issuer string) string {
	if s.Title != "" {
		return s.Title
	}
	u, err := url.Parse(issuer)
	if err != nil {
		return s.Name
	}
	return u.Host
}

func (s *SignInSettings) scopes() []string {
	if len(s.Scopes) == 0 {
		return []string{"openid", "profile", "email"}
	}
	return append([]string{"openid"}, slices.DeleteFunc(slices.Clone(s.Scopes),
		func(scope string) bool { return scope == "openid" })...)
}

// secret reads the client's secret, which may have been replaced since.
func (s *SignInSettings) secret() (string, error) {
	if s.ClientSecretFile == "" {
		return "", nil
	}
	text, err := os.ReadFile(s.ClientSecretFile)
	if err != nil {
		return "", fmt.Errorf("sign_in.client_secret_file: %w", err)
	}
	secret := strings.TrimSpace(string(text))
	if secret == "" {
		return "", fmt.Errorf("sign_in.client_secret_file: %q is empty", s.ClientSecretFile)
	}
	return secret, nil
}

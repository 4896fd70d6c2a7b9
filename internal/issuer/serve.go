package issuer

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
)

// maxForm bounds a request for a token.
const maxForm = 64 << 10

// identityPath is where managed identities are given tokens.
const identityPath = "/metadata/identity/oauth2/token"

// Front serves what clients ask for before they have a token, and hands every other request
// to next.
func (i *Issuer) Front(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if found, ok := i.route(r); ok {
			w.Header().Set("Cache-Control", "no-store")
			found.serve(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// route is an operation of the issuer. "{authority}" in its pattern is what isTenant knows.
type route struct {
	pattern string // "METHOD /path"
	serve   http.HandlerFunc
}

func (i *Issuer) routes() []route {
	return []route{
		{"GET /metadata/endpoints", i.endpoints},
		{"GET " + identityPath, i.identity},
		{"GET /adfs/discovery/keys", i.discoverKeys},
		{"GET /{authority}/.well-known/openid-configuration", i.discovery},
		{"GET /{authority}/v2.0/.well-known/openid-configuration", i.discovery},
		{"POST /{authority}/oauth2/token", i.token},
		{"POST /{authority}/oauth2/v2.0/token", i.token},
		{"POST /{authority}/oauth2/devicecode", i.device},
		{"POST /{authority}/oauth2/v2.0/devicecode", i.device},
	}
}

// route returns the route that r is for, and false if it is not for the issuer.
func (i *Issuer) route(r *http.Request) (route, bool) {
	segments, err := arm.Segments(r.URL.EscapedPath())
	if err != nil || len(segments) == 0 {
		return route{}, false
	}
	exact := r.Method + " /" + strings.Join(segments, "/") // az joins addresses with two slashes
	below := ""
	if isTenant(segments[0]) {
		rest := strings.Join(segments[1:], "/")
		// the authority of a tenant that is called adfs
		below = r.Method + " /{authority}/" + strings.TrimPrefix(rest, "adfs/")
	}
	for _, known := range i.routes() {
		if known.pattern == exact || known.pattern == below {
			return known, true
		}
	}
	return route{}, false
}

// isTenant reports whether an authority's path may begin with s: ADFS, the tenant, and the
// words that Entra ID has for a tenant that is not known yet.
func isTenant(s string) bool {
	return slices.Contains([]string{"adfs", Tenant, "common", "organizations"}, strings.ToLower(s))
}

// answer writes v. A caller that has gone needs none.
func answer(w http.ResponseWriter, status int, v any) { _ = arm.WriteJSON(w, status, v) }

// endpoints describes the server as a cloud, which is how az registers it.
func (i *Issuer) endpoints(w http.ResponseWriter, r *http.Request) {
	base := i.baseURL(r)
	answer(w, http.StatusOK, map[string]any{
		"name":            "sandpool",
		"resourceManager": base + "/",
		"authentication": map[string]any{"loginEndpoint": base + "/adfs",
			"audiences": []string{Audiences()[0] + "/"},
			"tenant":    "adfs", "identityProvider": "ADFS"},
		"graph": base + "/", "graphAudience": base + "/", "microsoftGraphResourceId": base + "/",
		"portal": base + "/", "gallery": base + "/", "suffixes": map[string]string{},
	})
}

// discovery answers OpenID Connect discovery for the authority that was asked.
func (i *Issuer) discovery(w http.ResponseWriter, r *http.Request) {
	base := i.baseURL(r)
	authority := base + "/" + strings.Split(strings.TrimLeft(r.URL.Path, "/"), "/")[0]
	flows, issuer := authority+"/oauth2", authority
	if strings.Contains(r.URL.Path, "/v2.0/") {
		flows, issuer = authority+"/oauth2/v2.0", authority+"/v2.0"
	}
	answer(w, http.StatusOK, map[string]any{
		"issuer": issuer, "token_endpoint": flows + "/token", "authorization_endpoint": authority +
			"/oauth2/authorize",
		"device_authorization_endpoint": flows + "/devicecode", "jwks_uri": base +
			"/adfs/discovery/keys",
		"response_types_supported": []string{"token"}, "subject_types_supported": []string{
			"pairwise"},
		"id_token_signing_alg_values_supported": []string{string(jose.ES256)},
		"grant_types_supported":                 []string{"client_credentials", deviceGrant},
		"token_endpoint_auth_methods_supported": []string{"client_secret_post"},
	})
}

// discoverKeys answers the public keys.
func (i *Issuer) discoverKeys(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, i.keys.published())
}

// oauthError answers an error as RFC 6749 has it, which clients print.
func oauthError(w http.ResponseWriter, status int, code, format string, args ...any) {
	answer(w, status, map[string]string{"error": code, "error_description": fmt.Sprintf(format,
		args...)})
}

// readForm reads the form of a request, and answers one that has none.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, bool) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	// tests' writers have none
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(30 * time.Second))
	if err := r.ParseForm(); err != nil {
		oauthError(w, http.StatusBadRequest, "invalid_request",
			"The body is not a form of at most %d bytes.", maxForm)
		return nil, false
	}
	return r.PostForm, true
}

// deviceGrant is the grant type of device codes (RFC 8628, section 3.4).
const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

// token answers a request for a token, by client credentials or a device code.
func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	form, ok := readForm(w, r)
	if !ok {
		return
	}
	switch grant := form.Get("grant_type"); grant {
	case "client_credentials":
		i.give(w, r, form.Get("client_id"), form.Get("client_secret"), scopeOf(form))
	case deviceGrant, "device_code": // as clients of the first version say it
		i.byDevice(w, r, form)
	default:
		oauthError(w, http.StatusBadRequest, "unsupported_grant_type",
			"The grant type %.60q is not supported; use client_credentials or %s.", grant,
			deviceGrant)
	}
}

// wrongScope refuses a resource.
func (i *Issuer) wrongScope(w http.ResponseWriter, wanted string) {
	oauthError(w, http.StatusBadRequest, "invalid_scope",
		"The resource %.100q is not one of this server's; use %s.", wanted,
		strings.Join(Audiences(), ", "))
}

// unavailable answers when the store does not.
func unavailable(w http.ResponseWriter) {
	oauthError(w, http.StatusServiceUnavailable, "temporarily_unavailable",
		"The server cannot check clients at the moment. Try again.")
}

// identity answers the request for a token of a managed identity. What proves it is a header
// that a page of another site cannot set.
func (i *Issuer) identity(w http.ResponseWriter, r *http.Request) {
	secret := r.Header.Get("X-IDENTITY-HEADER")
	if secret == "" {
		secret = r.Header.Get("Secret")
	}
	q := r.URL.Query()
	i.give(w, r, q.Get("client_id"), secret, q.Get("resource"))
}

// give answers with a token for the resource wanted, if secret is the text of the token whose
// id is client; an identity endpoint's caller need not know the id.
func (i *Issuer) give(w http.ResponseWriter, r *http.Request, client, secret, wanted string) {
	audience, ok := i.audience(r, wanted)
	if !ok {
		i.wrongScope(w, wanted)
		return
	}
	p, err := i.tokens.Verify(r.Context(), auth.Credential{Kind: auth.Bearer, Text: secret})
	if sandpool.ClassOf(err) == sandpool.Unavailable && err != nil {
		unavailable(w)
		return
	}
	if err != nil || client != "" && !strings.EqualFold(subjectPrefix+client, p.Subject) ||
		client == "" && r.Method == http.MethodPost {
		if i.Failed != nil {
			i.Failed(r, http.StatusUnauthorized, sandpool.Errorf(sandpool.Unauthenticated,
				"InvalidClient", "client_id", "The client %.20q is not known, or its secret is "+
					"wrong.", client))
		}
		oauthError(w, http.StatusUnauthorized, "invalid_client",
			"The client is not known, or its secret is wrong. "+
				"The id of a token of this server is a client's id, and the token itself its "+
				"secret; "+
				"'sandpool token create' makes one.")
		return
	}
	token, err := i.issue(p, i.baseURL(r)+"/adfs", audience, lifetime, "")
	if err != nil {
		oauthError(w, http.StatusInternalServerError, "server_error",
			"The token could not be signed.")
		return
	}
	seconds := int(lifetime / time.Second)
	expires := strconv.FormatInt(i.now().Add(lifetime).Unix(), 10)
	if r.Method == http.MethodPost {
		answer(w, http.StatusOK, map[string]any{"access_token": token, "token_type": "Bearer",
			"expires_in": seconds})
		return
	}
	answer(w, http.StatusOK, map[string]any{"access_token": token, "token_type": "Bearer",
		"resource":   wanted,
		"expires_in": strconv.Itoa(seconds), "expires_on": expires})
}

// audience is the resource that a scope or a resource parameter names. Clients add "/.default",
// some of them after a slash of the resource's own. The server's own address means Resource
// Manager.
func (i *Issuer) audience(r *http.Request, wanted string) (string, bool) {
	for scope := range strings.FieldsSeq(wanted) {
		resource := strings.TrimRight(strings.TrimSuffix(scope, ".default"), "/")
		switch {
		case slices.Contains(Audiences(), resource):
			return resource, true
		case resource == i.baseURL(r):
			return Audiences()[0], true
		}
	}
	return "", false
}

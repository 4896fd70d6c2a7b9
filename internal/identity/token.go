package identity

import (
	"context"
	"crypto/subtle"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/audit"
	"github.com/sandpool/sandpool/internal/auth"
)

// version is the api-version of the endpoint's form.
const version = "2019-08-01"

// wrong is why a request gets no token.
type wrong struct {
	status  int
	code    string
	message string
}

func (w *wrong) Error() string { return w.message }

// serve answers a request of a sandbox.
func (e *Endpoint) serve(w http.ResponseWriter, r *http.Request) {
	g, ok := r.Context().Value(guestKey{}).(*guest)
	if !ok {
		panic("identity: a connection of no sandbox") // all of them come from Attend
	}
	w.Header().Set("Cache-Control", "no-store")
	resource, why := ask(r, g)
	if why == nil {
		var got issued
		if got, why = e.token(r.Context(), g, resource, r.URL.Query()); why == nil {
			_ = arm.WriteJSON(w, http.StatusOK, map[string]string{
				"access_token": got.text, "token_type": "Bearer", "resource": resource,
				"client_id": got.client, "expires_on": strconv.FormatInt(got.ends.Unix(), 10)})
			return
		}
	}
	if why.status == http.StatusUnauthorized || why.status == http.StatusForbidden {
		e.o.Auditor.Refused(audit.Record{From: "sandbox " + string(g.sandbox.ID),
			Action: http.MethodGet, On: g.sandbox.Pool.String() + path, Status: why.status,
			Code: why.code, Message: why.message})
	}
	// A caller that has gone needs no answer.
	_ = arm.WriteJSON(w, why.status, map[string]any{"statusCode": why.status,
		"error": why.code, "error_description": why.message, "message": why.message})
}

// ask checks what a request is, and returns the resource that it names.
func ask(r *http.Request, g *guest) (resource string, _ *wrong) {
	shown := r.Header.Values("X-Identity-Header")
	q, err := url.ParseQuery(r.URL.RawQuery)
	switch {
	case len(shown) != 1 || subtle.ConstantTimeCompare([]byte(shown[0]), []byte(g.header)) != 1:
		return "", &wrong{http.StatusUnauthorized, "invalid_header",
			"The header X-IDENTITY-HEADER is missing, or not the IDENTITY_HEADER of this sandbox."}
	case len(r.Header.Values("X-Forwarded-For")) > 0 || len(r.Header.Values("Forwarded")) > 0:
		return "", &wrong{http.StatusForbidden, "forwarded",
			"The request was forwarded for somebody. Ask without a proxy."}
	case r.URL.EscapedPath() != path || r.URL.IsAbs():
		return "", &wrong{http.StatusNotFound, "not_found", "Tokens are at " + path + "."}
	case r.Method != http.MethodGet:
		return "", &wrong{http.StatusMethodNotAllowed, "invalid_request", "Use GET."}
	case err != nil:
		return "", &wrong{http.StatusBadRequest, "invalid_request", "The query cannot be read."}
	}
	for name, values := range q {
		if len(values) != 1 {
			return "", &wrong{http.StatusBadRequest, "invalid_request",
				"The query says " + strconv.Quote(clip(name)) + " more than once."}
		}
	}
	switch {
	case q.Get("api-version") != version:
		return "", &wrong{http.StatusBadRequest, "invalid_request", "Use api-version=" + version +
			"."}
	case q.Get("resource") == "":
		return "", &wrong{http.StatusBadRequest, "invalid_request", "Name a resource."}
	}
	return q.Get("resource"), nil
}

// clip is a text of a caller for an answer.
func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), 100)], "?") }

// token returns a token for a resource: the one that the sandbox has, or a new one.
func (e *Endpoint) token(ctx context.Context, g *guest, resource string,
	q url.Values) (issued, *wrong) {
	p, err := e.o.Pools.Pool(ctx, g.sandbox.Pool)
	switch {
	case err != nil && sandpool.ClassOf(err) != sandpool.NotFound:
		return issued{}, busy("pool")
	case err != nil || p.State == sandpool.Deleting || !e.Serves(p):
		return issued{}, &wrong{http.StatusForbidden, "no_identity",
			"The pool of this sandbox has no identity any more."}
	}
	of, why := meant(p, q)
	if why != nil {
		return issued{}, why
	}
	switch live, err := alive(ctx, e.o.Assigned, p, of); {
	case err != nil:
		return issued{}, busy("identity")
	case !live:
		return issued{}, &wrong{http.StatusForbidden, "no_identity", "The identity " + of.ID +
			" was deleted. Whoever manages the pool takes it out of the pool, or assigns another " +
			"one."}
	}
	audience := sandpool.Audience(resource)
	if !slices.Contains(p.Spec.Identity.Audiences, audience) {
		return issued{}, &wrong{http.StatusForbidden, "invalid_resource", "The pool allows no " +
			"tokens for " + strconv.Quote(clip(resource)) + ". It allows those that its setting " +
			"properties.sandpool.identityAudiences lists."}
	}
	return e.issue(g, p, of, audience)
}

// maxTokens bounds the tokens that are remembered for one sandbox.
const maxTokens = 64

func (e *Endpoint) issue(g *guest, p sandpool.Pool, of sandpool.AssignedIdentity,
	audience string) (issued, *wrong) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now, which := e.o.Now(), given{of.Principal, audience}
	if old, ok := g.tokens[which]; ok && now.Before(old.renewAfter) {
		return old, nil
	}
	text, ends, err := e.o.Issuer.IssueManaged(p, of, audience)
	if err != nil {
		return issued{}, &wrong{http.StatusInternalServerError, "server_error",
			"The token could not be signed."}
	}
	got := issued{client: of.Client, text: text, ends: ends,
		renewAfter: now.Add(ends.Sub(now) / 3)}
	for name, t := range g.tokens {
		if !now.Before(t.renewAfter) || len(g.tokens) >= maxTokens {
			delete(g.tokens, name)
		}
	}
	g.tokens[which] = got
	e.o.Auditor.Done(audit.Record{Who: Subject(of.Principal), Name: Name(p, of),
		From: "sandbox " + string(g.sandbox.ID), Action: http.MethodGet, On: p.ID.String() + path,
		Status: http.StatusOK, After: detail(g.sandbox, audience, ends)})
	return got, nil
}

func busy(what string) *wrong {
	return &wrong{http.StatusServiceUnavailable, "temporarily_unavailable",
		"The server cannot look the " + what + " up at the moment. Try again."}
}

// names are the parameters by which a request may say whose token it wants, with what each is
// compared with.
func names() map[string]func(sandpool.AssignedIdentity) string {
	principal := func(a sandpool.AssignedIdentity) string { return a.Principal }
	id := func(a sandpool.AssignedIdentity) string { return a.ID }
	return map[string]func(sandpool.AssignedIdentity) string{
		"client_id": func(a sandpool.AssignedIdentity) string { return a.Client },
		"object_id": principal, "principal_id": principal, "mi_res_id": id, "msi_res_id": id}
}

// meant finds the identity that a request asks for. One that names none means the pool's own, or
// the only one that there is.
func meant(p sandpool.Pool, q url.Values) (sandpool.AssignedIdentity, *wrong) {
	usable := p.Identities() // some: the pool serves
	by, value := "", ""
	for name := range names() {
		switch v := q.Get(name); {
		case v == "":
		case by != "":
			return sandpool.AssignedIdentity{}, &wrong{http.StatusBadRequest, "invalid_request",
				"Use one of client_id, object_id, principal_id, mi_res_id and msi_res_id."}
		default:
			by, value = name, v
		}
	}
	switch {
	case by == "" && (len(usable) == 1 || p.IsOwn(usable[0])):
		return usable[0], nil
	case by == "":
		return sandpool.AssignedIdentity{}, &wrong{http.StatusBadRequest, "invalid_request",
			"Multiple user assigned identities exist, please specify the clientId / resourceId of " +
				"the identity in the token request."}
	}
	for _, a := range usable {
		if strings.EqualFold(names()[by](a), value) {
			return a, nil
		}
	}
	return sandpool.AssignedIdentity{}, &wrong{http.StatusBadRequest, "identity_not_found",
		"The pool has no identity whose " + by + " is " + strconv.Quote(clip(value)) +
			" and whose lifecycle is Main."}
}

// Subject is the subject of an identity's principal.
func Subject(principal string) string { return "identity:" + principal }

// Name is what people call an identity that a pool has.
func Name(p sandpool.Pool, of sandpool.AssignedIdentity) string {
	if p.IsOwn(of) {
		return "pool " + p.ID.Name
	}
	return "identity " + of.ID[strings.LastIndexByte(of.ID, '/')+1:]
}

// believed is how long role assignments are not looked up again.
const believed = 5 * time.Second

// maxBelieved bounds the principals whose role assignments are remembered.
const maxBelieved = 1024

// unknown is the error of a token whose pool, identity or audience is gone.
func unknown() error {
	return sandpool.Errorf(sandpool.Unauthenticated, "InvalidAuthenticationToken", "Authorization",
		"The bearer token is of an identity that has ended or that its pool has no more, or for "+
			"what the pool does not allow any more.")
}

// principal is who an identity is, with the roles that were assigned to it.
func principal(p sandpool.Pool, of sandpool.AssignedIdentity,
	grants []sandpool.Grant) auth.Principal {
	return auth.Principal{Subject: Subject(of.Principal), Name: Name(p, of), Grants: grants,
		Objects: []string{of.Principal}}
}

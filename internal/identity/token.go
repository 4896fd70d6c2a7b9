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
				"client_id": got.principal, "expires_on": strconv.FormatInt(got.ends.Unix(), 10)})
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
		return issued{}, &wrong{http.StatusServiceUnavailable, "temporarily_unavailable",
			"The server cannot look the pool up at the moment. Try again."}
	case err != nil || p.State == sandpool.Deleting || !e.Serves(p):
		return issued{}, &wrong{http.StatusForbidden, "no_identity",
			"The pool of this sandbox has no identity any more."}
	}
	if why := named(p, q); why != nil {
		return issued{}, why
	}
	audience := sandpool.Audience(resource)
	if !slices.Contains(p.Spec.Identity.Audiences, audience) {
		return issued{}, &wrong{http.StatusForbidden, "invalid_resource", "The pool allows no " +
			"tokens for " + strconv.Quote(clip(resource)) + ". It allows those that its setting " +
			"properties.sandpool.identityAudiences lists."}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := e.o.Now()
	old, ok := g.tokens[audience]
	if ok && old.principal == p.Spec.Identity.Principal && now.Before(old.renewAfter) {
		return old, nil
	}
	text, ends, err := e.o.Issuer.IssueManaged(p, audience)
	if err != nil {
		return issued{}, &wrong{http.StatusInternalServerError, "server_error",
			"The token could not be signed."}
	}
	got := issued{principal: p.Spec.Identity.Principal, text: text, ends: ends,
		renewAfter: now.Add(ends.Sub(now) / 3)}
	for name, t := range g.tokens { // there are as many as a pool may allow, and no others
		if !now.Before(t.renewAfter) {
			delete(g.tokens, name)
		}
	}
	g.tokens[audience] = got
	e.o.Auditor.Done(audit.Record{Who: Subject(got.principal), Name: Name(p.ID),
		From: "sandbox " + string(g.sandbox.ID), Action: http.MethodGet, On: p.ID.String() + path,
		Status: http.StatusOK, After: detail(g.sandbox, audience, ends)})
	return got, nil
}

// named checks that a request which names an identity means the pool's.
func named(p sandpool.Pool, q url.Values) *wrong {
	for name, own := range map[string]string{"client_id": p.Spec.Identity.Principal,
		"object_id": p.Spec.Identity.Principal, "principal_id": p.Spec.Identity.Principal,
		"mi_res_id": p.ID.String(), "msi_res_id": p.ID.String()} {
		if v := q.Get(name); v != "" && !strings.EqualFold(v, own) {
			return &wrong{http.StatusBadRequest, "identity_not_found",
				"The pool has one identity, " + p.Spec.Identity.Principal + ", and " + name + " names another."}
		}
	}
	return nil
}

// Subject is the subject of a pool's principal.
func Subject(principal string) string { return "identity:" + principal }

// Name is what people call the identity of a pool.
func Name(id sandpool.PoolID) string { return "pool " + id.Name }

// believed is how long role assignments are not looked up again.
const believed = 5 * time.Second

// maxBelieved bounds the principals whose role assignments are remembered.
const maxBelieved = 1024

// unknown is the error of a token whose pool, identity or audience is gone.
func unknown() error {
	return sandpool.Errorf(sandpool.Unauthenticated, "InvalidAuthenticationToken", "Authorization",
		"The bearer token is of a pool's identity that has ended, or for what the pool does not "+
			"allow any more.")
}

// principal is who a pool is, with the roles that were assigned to it.
func principal(p sandpool.Pool, grants []sandpool.Grant) auth.Principal {
	id := p.Spec.Identity.Principal
	return auth.Principal{Subject: Subject(id), Name: Name(p.ID), Grants: grants,
		Objects: []string{id}}
}

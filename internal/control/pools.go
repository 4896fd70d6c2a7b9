package control

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/audit"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/control/precondition"
	"github.com/sandpool/sandpool/internal/control/tree"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/pool"
)

// maxBody bounds the body of a control-plane request.
const maxBody = 256 << 10

func (c *Control) get(w http.ResponseWriter, r *http.Request, id sandpool.PoolID) error {
	p, err := c.pools.Pool(r.Context(), id)
	if err != nil {
		return err
	}
	w.Header().Set("Etag", precondition.Tag(p))
	if precondition.Matches(r.Header.Values("If-None-Match"), &p) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return arm.WriteJSON(w, http.StatusOK, c.renderOne(p, r))
}

// head answers whether a pool exists, as clients of Resource Manager read it: they take a 200
// for a mistake.
func (c *Control) head(w http.ResponseWriter, r *http.Request, id sandpool.PoolID) error {
	if _, err := c.pools.Pool(r.Context(), id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (c *Control) put(w http.ResponseWriter, r *http.Request, id sandpool.PoolID) error {
	var body api.SessionPool
	ignored, err := arm.DecodeKnown(w, r, maxBody, &body)
	if err != nil {
		return err
	}
	unlock, err := c.lock(r.Context())
	if err != nil {
		return err
	}
	defer unlock()
	old, err := c.existing(r, id)
	if err != nil {
		return err
	}
	if err := precondition.Check(r, old); err != nil {
		return err
	}
	got, err := c.save(r, id, body, old)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if old == nil {
		status = http.StatusCreated
	}
	if old == nil || got.State == sandpool.InProgress {
		// az looks for the operation after every 201, finished or not.
		c.setOperation(w, r, got, putOperation)
	}
	w.Header().Set("Etag", precondition.Tag(got))
	out := c.renderOne(got, r)
	out.Properties.Sandpool.Ignored = ignored
	return arm.WriteJSON(w, status, out)
}

func (c *Control) patch(w http.ResponseWriter, r *http.Request, id sandpool.PoolID) error {
	var body map[string]any
	if err := arm.DecodeJSON(w, r, maxBody, &body); err != nil {
		return err
	}
	unlock, err := c.lock(r.Context())
	if err != nil {
		return err
	}
	defer unlock()
	old, err := c.existing(r, id)
	if err != nil {
		return err
	}
	if old == nil {
		_, err := c.pools.Pool(r.Context(), id)
		return err
	}
	if err := precondition.Check(r, old); err != nil {
		return err
	}
	merged, err := mergePatch(wire(*old, ""), body)
	if err != nil {
		return err
	}
	got, err := c.save(r, id, merged, old)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if got.State == sandpool.InProgress {
		status = http.StatusAccepted
		c.setOperation(w, r, got, putOperation)
		c.setLocation(w, r, got, putOperation)
	}
	w.Header().Set("Etag", precondition.Tag(got))
	return arm.WriteJSON(w, status, c.renderOne(got, r))
}

// save makes of the pool what body says, and tells that it was changed or, if there was none,
// created.
func (c *Control) save(r *http.Request, id sandpool.PoolID, body api.SessionPool,
	old *sandpool.Pool) (sandpool.Pool, error) {
	want, secrets, err := c.parse(r.Context(), id, body, old)
	if err != nil {
		return sandpool.Pool{}, err
	}
	want.UpdatedBy = auth.Author(r.Context())
	got, err := c.pools.Put(r.Context(), want, withKey(want, secrets))
	if err != nil {
		return sandpool.Pool{}, err
	}
	done := event.PoolUpdated
	if old == nil {
		done = event.PoolCreated
	}
	c.tell(r, done, id)
	audit.Changed(r.Context(), seen(old), seen(&got))
	return got, nil
}

func (c *Control) delete(w http.ResponseWriter, r *http.Request, id sandpool.PoolID) error {
	unlock, err := c.lock(r.Context())
	if err != nil {
		return err
	}
	defer unlock()
	begun := c.o.Now()
	p, err := c.pools.Pool(r.Context(), id)
	if err == nil {
		if err := precondition.Check(r, &p); err != nil {
			return err
		}
	}
	if err == nil && p.State != sandpool.Deleting {
		switch err := c.pools.Delete(r.Context(), id); {
		case err == nil:
			c.tell(r, event.PoolDeleting, id)
			audit.Changed(r.Context(), seen(&p), nil)
		case sandpool.ClassOf(err) != sandpool.NotFound:
			return err
		}
		p, err = c.pools.Pool(r.Context(), id)
	}
	switch {
	case sandpool.ClassOf(err) == sandpool.NotFound && err != nil:
		w.WriteHeader(http.StatusNoContent)
		return nil
	case err != nil:
		return err
	}
	p.UpdatedAt = begun
	c.setLocation(w, r, p, deleteOperation)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// seen is a pool as the audit log shows it; nil if there is none.
func seen(p *sandpool.Pool) any {
	if p == nil {
		return nil
	}
	return wire(*p, "")
}

// existing returns the pool with the given id, and nil if there is none. A pool
// that is being deleted cannot be changed.
func (c *Control) existing(r *http.Request, id sandpool.PoolID) (*sandpool.Pool, error) {
	p, err := c.pools.Pool(r.Context(), id)
	switch {
	case err == nil && p.State == sandpool.Deleting:
		return nil, pool.BeingDeleted(id, id.String())
	case err == nil:
		return &p, nil
	case sandpool.ClassOf(err) == sandpool.NotFound:
		return nil, nil
	}
	return nil, err
}

// list answers for a subscription, and for a resource group if the path has one.
func (c *Control) list(w http.ResponseWriter, r *http.Request) error {
	subscription, group := r.PathValue("subscription"), r.PathValue("resourceGroup")
	if err := arm.CheckScope(subscription, group); err != nil {
		return err
	}
	if err := auth.Require(r.Context(), auth.ListPools, sandpool.Scope{}); err != nil {
		return err
	}
	who, _ := auth.FromContext(r.Context())
	after, err := skipToken(r)
	if err != nil {
		return err
	}
	scope := sandpool.Scope{Subscription: subscription, ResourceGroup: group}
	search, err := searched(r)
	if err != nil {
		return err
	}
	page, last := api.SessionPools{Value: []api.SessionPool{}}, ""
	ranges := tree.Readable(who, scope)
	if search != "" {
		found, last, err := tree.Search(r.Context(), c.pools, ranges, after, search, c.o.PageSize)
		if err != nil {
			return err
		}
		for _, p := range found {
			page.Value = append(page.Value, c.render(p, r))
		}
		if last != "" {
			page.NextLink = c.nextLink(r, last)
		}
		return arm.WriteJSON(w, http.StatusOK, page)
	}
	for p, err := range tree.Each(r.Context(), whole{c}, ranges, after, c.o.PageSize+1) {
		if err != nil {
			return err
		}
		if len(page.Value) == c.o.PageSize {
			page.NextLink = c.nextLink(r, last)
			break
		}
		page.Value = append(page.Value, c.render(p, r))
		last = p.ID.Key()
	}
	return arm.WriteJSON(w, http.StatusOK, page)
}

// searched is the part, in lower case, that the names of a list are to have.
func searched(r *http.Request) (string, error) {
	s := r.URL.Query().Get(api.SearchParameter)
	if !isText(s) {
		return "", arm.WrongParameter(api.SearchParameter, s, "a part of a name")
	}
	return strings.ToLower(s), nil
}

// isText reports whether s may be in a key: PostgreSQL fails at what is not text.
func isText(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
}

// skipParameter says where a page begins: after the pool whose key it holds.
const skipParameter = "$skipToken"

func skipToken(r *http.Request) (string, error) {
	key, err := base64.RawURLEncoding.DecodeString(r.URL.Query().Get(skipParameter))
	if err != nil || !isText(string(key)) {
		return "", sandpool.Errorf(sandpool.Invalid, "InvalidSkipToken", skipParameter,
			"The %s is not one that this server gave. Follow nextLink as it is.", skipParameter)
	}
	return string(key), nil
}

func (c *Control) nextLink(r *http.Request, last string) string {
	q := r.URL.Query()
	q.Set(skipParameter, base64.RawURLEncoding.EncodeToString([]byte(last)))
	u := url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: q.Encode()}
	return c.o.BaseURL(r) + u.String()
}

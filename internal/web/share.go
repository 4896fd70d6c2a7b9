package web

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
)

// The bounds of what is shared.
const (
	shareTime = time.Hour
	maxShares = 100
	// maxBoard bounds what one playground shows to those who look on.
	maxBoard = 2 << 20
)

// share lets whoever has its link look at a session, as one who has signed in sees it, and do
// nothing. It ends after an hour, and when its owner signs out or loses the right to the session.
type share struct {
	token            string
	owner            [sha256.Size]byte // the key of the visit
	pool, identifier string
	until            time.Time
	board            []byte // the cells with their output, in JSON, as the owner's page sent them
	version          int64
	files            []api.File // as they were when the version was first looked at
	listed           int64      // the version with which they were listed; -1 for none
}

// newShare returns the secret of a link that shows a session of the request's visit.
func (v *visits) newShare(r *http.Request, token, pool, identifier string) (secret string,
	until time.Time) {
	secret, now := rand.Text(), v.now()
	v.mu.Lock()
	defer v.mu.Unlock()
	var first [sha256.Size]byte
	for key, each := range v.shares {
		if now.After(each.until) {
			delete(v.shares, key)
		} else if v.shares[first] == nil || each.until.Before(v.shares[first].until) {
			first = key
		}
	}
	if len(v.shares) >= maxShares {
		delete(v.shares, first)
	}
	owner, _ := keyOf(r)
	until = now.Add(shareTime)
	v.shares[sha256.Sum256([]byte(secret))] = &share{token: token, owner: owner, pool: pool,
		identifier: identifier, until: until, board: []byte("[]"),
		listed: -1}
	return secret, until
}

// shared returns a copy of what a link shows.
func (v *visits) shared(secret string) (share, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	key := sha256.Sum256([]byte(secret))
	s := v.shares[key]
	if s == nil {
		return share{}, false
	}
	if v.now().After(s.until) {
		delete(v.shares, key)
		return share{}, false
	}
	return *s, true
}

// publish replaces what a link of the request's visit shows.
func (v *visits) publish(r *http.Request, secret string, board []byte) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.shares[sha256.Sum256([]byte(secret))]
	owner, ok := keyOf(r)
	if s == nil || !ok || s.owner != owner {
		return false
	}
	s.board = board
	s.version++
	return true
}

// noteFiles remembers the files of a session that a link shows.
func (v *visits) noteFiles(secret string, version int64, files []api.File) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s := v.shares[sha256.Sum256([]byte(secret))]; s != nil {
		s.files, s.listed = files, version
	}
}

// endShares ends what a visit has shared. The caller holds mu.
func (v *visits) endShares(owner [sha256.Size]byte) {
	for key, s := range v.shares {
		if s.owner == owner {
			delete(v.shares, key)
		}
	}
}

// shareSession answers a page's script with a link to a session.
func (w *Web) shareSession(rw http.ResponseWriter, r *http.Request) {
	v, ok := w.visits.of(r)
	if !ok || !v.knows(r.Header.Get(csrfHeader)) {
		http.Error(rw, "the page is out of date: reload it", http.StatusForbidden)
		return
	}
	r.Body = http.MaxBytesReader(rw, r.Body, 16<<10)
	name, identifier := r.PathValue("name"), r.PostFormValue("identifier")
	if err := w.mayLook(r, share{token: v.token, pool: name, identifier: identifier}); err != nil {
		message, status := explain(err)
		http.Error(rw, message, status)
		return
	}
	secret, until := w.visits.newShare(r, v.token, name, identifier)
	writeJSON(rw, struct {
		Path  string `json:"path"`
		Until string `json:"until"`
	}{"/ui/shared/" + secret, until.UTC().Format(time.RFC3339)})
}

// mayLook asks the API whether the token of a share may see its session. One that has not begun, or
// has ended, may be looked at: there is nothing to see.
func (w *Web) mayLook(r *http.Request, s share) error {
	ctx, cancel := context.WithTimeout(r.Context(), pageTime)
	defer cancel()
	c, err := w.client(r, s.token)
	if err != nil {
		return err
	}
	if _, err = c.Session(ctx, s.pool, s.identifier); sandpool.ClassOf(err) == sandpool.NotFound {
		_, err = c.Pool(ctx, s.pool)
	}
	return err
}

// board takes the cells of a playground that is shared.
func (w *Web) board(rw http.ResponseWriter, r *http.Request) {
	v, ok := w.visits.of(r)
	if !ok || !v.knows(r.Header.Get(csrfHeader)) {
		http.Error(rw, "the page is out of date: reload it", http.StatusForbidden)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxBoard))
	if err != nil {
		http.Error(rw, "the cells are too large to be shared", http.StatusRequestEntityTooLarge)
		return
	}
	if !json.Valid(body) || !w.visits.publish(r, r.PathValue("secret"), body) {
		http.Error(rw, "this link has ended", http.StatusGone)
		return
	}
	rw.WriteHeader(http.StatusNoContent)
}

// looking serves those who have a link, if its owner still may see the session.
func (w *Web) looking(serve func(http.ResponseWriter, *http.Request, share)) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		s, ok := w.visits.shared(r.PathValue("secret"))
		if ok {
			ok = w.mayLook(r, s) == nil
		}
		if !ok {
			w.render(rw, http.StatusGone, "error", view{Title: "Shared session",
				Version: w.version,
				Error:   "This link has ended. Ask whoever sent it for another."})
			return
		}
		serve(rw, r, s)
	}
}

// sharedPage is the page of a link.
func (w *Web) sharedPage(rw http.ResponseWriter, r *http.Request, s share) {
	w.render(rw, http.StatusOK, "shared", view{Title: "Shared session", Version: w.version,
		Data: struct{ Pool, Path, Until string }{s.pool, r.URL.EscapedPath(),
			s.until.UTC().Format(time.RFC3339)}})
}

// sharedBoard answers with the cells, and with what there is of files.
func (w *Web) sharedBoard(rw http.ResponseWriter, r *http.Request, s share) {
	out := struct {
		Version int64           `json:"version"`
		Cells   json.RawMessage `json:"cells"`
		Files   []api.File      `json:"files,omitempty"`
		Began   string          `json:"began,omitempty"`
		Ends    string          `json:"ends,omitempty"`
	}{Version: s.version}
	fresh := r.URL.Query().Get("version") != itoa(s.version)
	if fresh {
		out.Cells = s.board
	}
	ctx, cancel := context.WithTimeout(r.Context(), pageTime)
	defer cancel()
	if c, err := w.client(r, s.token); err == nil {
		if view, err := c.Session(ctx, s.pool, s.identifier); err == nil {
			out.Began, out.Ends = view.CreatedAt, view.ExpiresAt
			if fresh { // to list is to use: only what the owner does keeps the session alive
				if s.listed != s.version {
					s.files = filesOf(ctx, c, s)
					w.visits.noteFiles(r.PathValue("secret"), s.version, s.files)
				}
				out.Files = s.files
			}
		}
	}
	writeJSON(rw, out)
}

// filesOf lists what the session has; a container has none that the server knows.
func filesOf(ctx context.Context, c *client.Client, s share) []api.File {
	files, err := c.Files(ctx, s.pool, s.identifier, "", false)
	if err != nil {
		return nil
	}
	return files
}

func writeJSON(rw http.ResponseWriter, v any) {
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(v) // a reader that has gone does not matter
}

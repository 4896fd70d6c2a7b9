// Package local is what a server tells those who are on its machine and may read its data
// directory: profiles of itself, and the levels of its log, which they can change, as they can the
// key of its store. It listens on a
// Unix socket that its owner alone can open, so it needs no token.
package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"time"

	"github.com/sandpool/sandpool/internal/logging"
)

// socketName is the socket's, below the data directory.
const socketName = "local.sock"

// The bounds of a question.
const (
	maxBody    = 64 << 10
	maxProfile = 10 * time.Minute
)

// Path is where the server with a data directory listens.
func Path(dataDir string) string { return filepath.Join(dataDir, socketName) }

// Parts are what callers can change. Those that are nil cannot be changed.
type Parts struct {
	Levels *logging.Handler
	// Rekey seals the secrets of the store with another key, and returns what is to be said of it.
	Rekey func(context.Context) (any, error)
}

// Serve serves until ctx ends. That the socket cannot be made is no reason not to serve: the log
// says why.
func Serve(ctx context.Context, log *slog.Logger, dataDir string, parts Parts) error {
	l, err := listen(ctx, Path(dataDir))
	if err != nil {
		log.Warn("profiles and levels of the log are not to be had", "error", err)
		return nil
	}
	srv := &http.Server{Handler: handler(parts), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// listen makes the socket, in place of what an earlier server has left: the caller has the data
// directory's lock.
func listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func handler(parts Parts) http.Handler {
	levels := parts.Levels
	mux := http.NewServeMux()
	mux.HandleFunc("POST /store/rekey", func(w http.ResponseWriter, r *http.Request) {
		rekey(w, r, parts.Rekey)
	})
	mux.HandleFunc("GET /debug/pprof/{name}", profile)
	mux.HandleFunc("GET /log-levels", func(w http.ResponseWriter, _ *http.Request) {
		showLevels(w, levels)
	})
	mux.HandleFunc("PUT /log-levels", func(w http.ResponseWriter, r *http.Request) {
		var wanted map[string]string
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&wanted)
		if err == nil && levels == nil {
			err = errors.New("this server's log has no levels of its own")
		}
		set := map[string]slog.Level{}
		for pkg, text := range wanted {
			var each error
			set[pkg], each = logging.Parse(text)
			err = errors.Join(err, each)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if level, ok := set[""]; ok { // it takes the others back
			levels.Set("", level)
			delete(set, "")
		}
		for pkg, level := range set {
			levels.Set(pkg, level)
		}
		showLevels(w, levels)
	})
	return mux
}

// rekey answers what the change of the store's key has done. A caller who goes away does not stop
// it half way: what is sealed is sealed all at once, but its remains are to be overwritten, too.
func rekey(w http.ResponseWriter, r *http.Request, change func(context.Context) (any, error)) {
	if change == nil {
		http.Error(w, "this server cannot change the key", http.StatusNotImplemented)
		return
	}
	done, err := change(context.WithoutCancel(r.Context()))
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(done) // a caller that has gone does not matter
}

func showLevels(w http.ResponseWriter, levels *logging.Handler) {
	out := map[string]string{}
	if levels != nil {
		for pkg, level := range levels.Levels() {
			out[pkg] = level.String()
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out) // a reader that has gone does not matter
}

// profile answers as net/http/pprof does, whose package would register itself everywhere.
func profile(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	seconds, err := strconv.Atoi(r.FormValue("seconds"))
	if err != nil || seconds <= 0 {
		seconds = 30
	}
	span := min(time.Duration(seconds)*time.Second, maxProfile)
	begin, end := pprof.StartCPUProfile, pprof.StopCPUProfile
	switch name {
	case "profile":
	case "trace":
		begin, end = trace.Start, trace.Stop
	default:
		p := pprof.Lookup(name)
		if p == nil {
			http.Error(w, fmt.Sprintf("there is no profile %q", name), http.StatusNotFound)
			return
		}
		debug, _ := strconv.Atoi(r.FormValue("debug")) // as pprof does, anything else is 0
		_ = p.WriteTo(w, debug)
		return
	}
	if err := begin(w); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	defer end()
	wait := time.NewTimer(span)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-r.Context().Done():
	}
}

// Client asks the server with a data directory on this machine.
type Client struct{ http *http.Client }

// NewClient returns a Client.
func NewClient(dataDir string) *Client {
	return &Client{&http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", Path(dataDir))
		}}}}
}

// Do asks, and returns the answer, whose status is 200.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	req.URL.Scheme, req.URL.Host = "http", "local"
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the server on this machine does not answer: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		text := make([]byte, 500)
		n, _ := res.Body.Read(text)
		_ = res.Body.Close()
		return nil, fmt.Errorf("the server says %s: %s", res.Status, text[:n])
	}
	return res, nil
}

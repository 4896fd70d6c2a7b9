package guest

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/agent/guest/background"
	"github.com/sandpool/sandpool/internal/agent/guest/executions"
	"github.com/sandpool/sandpool/internal/agent/guest/terminal"
)

// Server answers the host. Until a Driver is set it is not ready; until Init it refuses
// everything else.
type Server struct {
	log    *slog.Logger
	cfg    Config
	driver atomic.Pointer[Driver]
	taken  atomic.Bool              // an Init was accepted
	secret atomic.Pointer[[32]byte] // hash of the secret, once Init is done

	executions executions.Registry
	background background.Registry
	contexts   contexts

	terminals atomic.Int64 // without a name, that are open, and those that are refused
	hub       terminal.Hub // those with a name
	watches   atomic.Int64 // that are open, and those that are refused
}

// NewServer returns a server that is not ready yet.
func NewServer(log *slog.Logger, cfg Config) *Server {
	return &Server{log: log, cfg: cfg, contexts: newContexts()}
}

// SetDriver makes the server ready.
func (s *Server) SetDriver(d *Driver) { s.driver.Store(d) }

// Handler returns the HTTP side, described in package agent.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", s.ready)
	mux.HandleFunc("POST /init", s.init)
	guarded := func(pattern string, h func(http.ResponseWriter, *http.Request) error) {
		if goesOn(pattern) {
			h = crowd(h)
		}
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			err := s.authorise(r)
			if err == nil {
				err = h(w, r)
			}
			if err != nil {
				agent.WriteError(w, err)
			}
		})
	}
	guarded("POST /execute", s.execute)
	guarded("POST /link", s.link)
	guarded("POST /interrupt", s.interrupt)
	s.executions.Register(guarded, normalise, s.perform)
	s.contexts.register(guarded, s.driver.Load)
	s.background.Register(guarded, s.forProcesses, func(r *agent.ProcessRequest) error {
		return s.cfg.enter(&r.Dir)
	})
	guarded("GET /metadata", s.metadata)
	guarded("GET /processes", s.processes)
	guarded("POST /terminal", s.terminal)
	guarded("GET /terminals", s.listTerminals)
	guarded("DELETE /terminal", s.endTerminal)
	f := &files{cfg: s.cfg}
	guarded("GET /files", f.list)
	guarded("GET /stat", f.stat)
	guarded("GET /watch", s.watch)
	guarded("GET /file", f.open)
	guarded("PUT /file", f.upload)
	guarded("DELETE /file", f.remove)
	guarded("POST /directory", f.mkdir)
	f.store().Register(guarded)
	return mux
}

// goesOn reports whether a call lasts as long as what it tells of.
func goesOn(pattern string) bool {
	switch pattern {
	case "GET /execution/events", "GET /execution/end", "GET /background/logs", "GET /background":
		return true
	}
	return false
}

// crowd refuses callers beyond those that may be there at a time: each holds a connection, and what
// it has not read yet.
func crowd(h func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter,
	*http.Request) error {
	var inside atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) error {
		defer inside.Add(-1)
		if inside.Add(1) > agent.MaxReaders {
			return &sandpool.Error{Class: sandpool.Unavailable, Code: "TooManyReaders",
				RetryAfter: time.Second,
				Message: fmt.Sprintf("%d callers follow this session in this way already. "+
					"End one of them.", agent.MaxReaders)}
		}
		return h(w, r)
	}
}

// forProcesses is what background processes start with.
func (s *Server) forProcesses() background.Config {
	return background.Config{Env: s.cfg.environ(), Dir: s.cfg.DataDir, UID: s.cfg.User.UID,
		GID: s.cfg.User.GID, Start: s.driver.Load().procs.start, End: hangUp}
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if s.driver.Load() == nil {
		http.Error(w, "warming up", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// authorise compares hashes, so that neither content nor length of the secret
// shows in the time it takes.
func (s *Server) authorise(r *http.Request) error {
	want := s.secret.Load()
	if want == nil {
		return sandpool.Errorf(sandpool.Unavailable, "NotInitialised", "",
			"The sandbox waits for its init call.")
	}
	shown, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	got := sha256.Sum256([]byte(shown))
	if !ok || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return sandpool.Errorf(sandpool.Unauthenticated, "", "Authorization",
			"The bearer token is missing or wrong.")
	}
	return nil
}

func (s *Server) init(w http.ResponseWriter, r *http.Request) {
	res, err := s.initialise(w, r)
	if err != nil {
		agent.WriteError(w, err)
		return
	}
	_ = agent.WriteJSON(w, res)
}

func (s *Server) initialise(w http.ResponseWriter, r *http.Request) (agent.InitResult, error) {
	received := time.Now()
	var req agent.InitRequest
	var res agent.InitResult
	d := s.driver.Load()
	if d == nil {
		return res, sandpool.Errorf(sandpool.Unavailable, "NotReady", "",
			"The kernel is warming up. Wait for /ready.")
	}
	if err := decode(w, r, 64<<10, &req); err != nil {
		return res, err
	}
	if n := len(req.Secret); n < 16 || n > 256 {
		return res, sandpool.Errorf(sandpool.Invalid, "", "secret",
			"The secret has %d bytes; use 16 to 256.", n)
	}
	if n := len(req.Seed); n < 16 || n > 64 {
		return res, sandpool.Errorf(sandpool.Invalid, "", "seed",
			"The seed has %d bytes; use 16 to 64.", n)
	}
	if want := s.cfg.Secret; want != "" {
		// Beyond a loopback interface others could call before the one who has started the sandbox.
		a, b := sha256.Sum256([]byte(req.Secret)), sha256.Sum256([]byte(want))
		if subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
			return res, sandpool.Errorf(sandpool.Unauthenticated, "", "secret",
				"The secret is not the one that the sandbox was started with.")
		}
	}
	if err := agent.CheckEnv(req.Env); err != nil {
		return res, err
	}
	if !s.taken.CompareAndSwap(false, true) {
		return res, sandpool.Errorf(sandpool.Conflict, "AlreadyInitialised", "",
			"The sandbox has had its init call.")
	}
	if err := rehearse(r.Context(), d); err != nil {
		return res, fmt.Errorf("rehearse: %w", err)
	}
	if err := d.Seed(r.Context(), req.Seed, req.Env); err != nil {
		return res, fmt.Errorf("seed: %w", err)
	}
	s.cfg.Env = with(s.cfg.Env, req.Env)     // before the secret is there nobody reads it
	if err := s.cfg.nameHost(); err != nil { // which an image may make impossible
		s.log.Warn("the sandbox's own name does not resolve", "error", err)
	}
	if err := s.cfg.log.Begin(); err != nil {
		return res, err
	}
	if !req.Time.IsZero() {
		res.Skew = received.Sub(req.Time)
	}
	hash := sha256.Sum256([]byte(req.Secret))
	s.secret.Store(&hash)
	return res, nil
}

func (s *Server) execute(w http.ResponseWriter, r *http.Request) error {
	var req agent.ExecuteRequest
	if err := decode(w, r, maxRequest, &req); err != nil {
		return err
	}
	res, err := s.perform(r.Context(), req, nil)
	if err != nil {
		return err
	}
	return agent.WriteJSON(w, res)
}

// normalise puts in the defaults and checks the bounds.
func normalise(req *agent.ExecuteRequest) error {
	size := len(req.Code) + len(req.Stdin)
	for _, a := range req.Args {
		size += len(a)
	}
	for name, value := range req.Env {
		size += len(name) + len(value)
	}
	if size > agent.MaxCode {
		return sandpool.Errorf(sandpool.TooLarge, "", "code",
			"The code has %d bytes; %d is the most. Upload data as a file.", size, agent.MaxCode)
	}
	if req.Timeout < 0 || req.MaxOutput < 0 {
		return sandpool.Errorf(sandpool.Invalid, "", "timeout",
			"Timeout and maximum of output must not be negative.")
	}
	if err := agent.CheckEnv(req.Env); err != nil {
		return err
	}
	if req.Timeout == 0 {
		req.Timeout = agent.DefaultTimeout
	}
	if req.MaxOutput == 0 {
		req.MaxOutput = agent.DefaultMaxOutput
	}
	req.MaxOutput = min(req.MaxOutput, agent.LimitMaxOutput)
	return nil
}

func (s *Server) interrupt(w http.ResponseWriter, _ *http.Request) error {
	s.driver.Load().Interrupt()
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) metadata(w http.ResponseWriter, _ *http.Request) error {
	return agent.WriteJSON(w, s.driver.Load().Info())
}

func decode(w http.ResponseWriter, r *http.Request, limit int64, v any) error {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit)).Decode(v)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return sandpool.Errorf(sandpool.TooLarge, "", "body", "The request has more than %d bytes.",
			limit)
	}
	if err != nil {
		return &sandpool.Error{Class: sandpool.Invalid, Target: "body",
			Message: "The request is not the JSON it should be.", Err: err}
	}
	return nil
}

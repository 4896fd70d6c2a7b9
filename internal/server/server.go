package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/audit"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/authority"
	"github.com/sandpool/sandpool/internal/container"
	"github.com/sandpool/sandpool/internal/control"
	"github.com/sandpool/sandpool/internal/deployment"
	"github.com/sandpool/sandpool/internal/descriptor"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/event/export"
	"github.com/sandpool/sandpool/internal/history"
	"github.com/sandpool/sandpool/internal/history/executions"
	"github.com/sandpool/sandpool/internal/identity"
	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/interpreter"
	"github.com/sandpool/sandpool/internal/issuer"
	"github.com/sandpool/sandpool/internal/metrics"
	"github.com/sandpool/sandpool/internal/oci"
	"github.com/sandpool/sandpool/internal/otlp"
	"github.com/sandpool/sandpool/internal/peer"
	"github.com/sandpool/sandpool/internal/pool"
	"github.com/sandpool/sandpool/internal/proxy"
	"github.com/sandpool/sandpool/internal/quiet"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor"
	"github.com/sandpool/sandpool/internal/server/datadir"
	"github.com/sandpool/sandpool/internal/server/engine"
	"github.com/sandpool/sandpool/internal/server/timed"
	"github.com/sandpool/sandpool/internal/server/vault"
	"github.com/sandpool/sandpool/internal/store"
	"github.com/sandpool/sandpool/internal/systemd"
	"github.com/sandpool/sandpool/internal/tracing"
	"github.com/sandpool/sandpool/internal/usage"
	"github.com/sandpool/sandpool/internal/web"
)

// shutdownGrace is how long requests in flight may still take when the server stops.
const shutdownGrace = 10 * time.Second

// stopGrace bounds stopping all sandboxes when the server stops.
const stopGrace = time.Minute

// HandOver must be the first call of main: the engine starts this program again
// for its sandboxes, and those processes must not become servers. It does not return in them.
func HandOver() { gvisor.HandOver() }

// Server is a whole sandpool server.
type Server struct {
	log       *slog.Logger
	cfg       Config
	began     time.Time
	lock      *os.File
	store     *vault.State
	engine    *engine.Engine
	authority string // in PEM; empty without one
	images    *image.Store
	manager   *pool.Manager
	within    *interpreter.Set
	memory    memory
	proxy     *proxy.Proxy
	listener  net.Listener
	issued    *authority.Issued // its certificates by ACME; nil without
	given     *x509.Certificate // the one of tls.cert; nil without
	http      *http.Server
	events    *event.Bus
	underWay  *descriptor.Requests
	deleted   deletions

	containers   *container.Containers
	endFollowing func() // ends the streams of logs

	tokens  *auth.Tokens
	token   string       // the administrator's
	audit   *audit.Log   // who changed what
	usage   *usage.Meter // nil if nothing is recorded
	used    *usage.Reader
	control *control.Control

	identities *identity.Endpoint // of pools, in their sandboxes
	audited    *audit.Recorder

	deployer  *deployment.Service
	keys      *issuer.Keys
	clients   *issuer.Issuer
	dashboard *web.Web // nil if there is none
	metrics   *metrics.Metrics
	history   *history.History
	past      *executions.Keeper // nil if no pool may keep what its sessions run
	tracer    *tracing.Tracer    // nil if nothing is traced
	scraped   net.Listener       // of metrics alone; nil if they have none
	pushed    *otlp.Client       // of metrics; nil if nobody gets them
	exported  *export.Export     // of events; nil if nobody gets them

	member       string          // its name as an owner; empty if no server shares the store
	identity     *peer.Identity  // nil if no server shares the store, as are those below
	peers        *peer.Forwarder // to other servers
	peerListener net.Listener    // nil also if they cannot reach this one
	peerServer   *http.Server
}

// New opens everything that the server needs and starts listening, but serves
// nothing until Run. Close gives it all back.
func New(ctx context.Context, log *slog.Logger, cfg Config) (_ *Server, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Engine == engine.GVisor && os.Geteuid() != 0 {
		return nil, sandpool.Errorf(sandpool.Unsupported, "NotRoot", "host",
			"The server makes namespaces and cgroups, which needs root; run the command with sudo.")
	}
	s := &Server{log: log, cfg: cfg, began: time.Now(), proxy: proxy.New(proxy.Options{})}
	if err := s.observe(); err != nil {
		return nil, err
	}
	s.within = interpreter.New(interpreter.Options{MaxTimeout: cfg.Limits.MaxExecution,
		Idle: s.memory.free})
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.lock, err = datadir.Lock(ctx, cfg.DataDir); err != nil {
		return nil, err
	}
	member, err := cfg.member()
	if err != nil {
		return nil, err
	}
	if s.store, err = vault.Open(ctx, log, cfg.Vault()); err != nil {
		return nil, err
	}
	if err := s.meet(ctx, &member); err != nil {
		return nil, err
	}
	if s.tokens, err = auth.NewTokens(s.store, nil); err != nil {
		return nil, err
	}
	if s.token, err = adminToken(ctx, s.store, s.tokens, cfg.DataDir); err != nil {
		return nil, err
	}
	images, err := image.Open(cfg.Images())
	if err != nil {
		return nil, err
	}
	s.images = images
	if s.engine, err = s.openEngine(ctx); err != nil {
		return nil, err
	}
	registries, err := oci.New(images, cfg.OCI())
	if err != nil {
		return nil, err
	}
	tpl, err := newTemplates(ctx, cfg, images, registries)
	if err != nil {
		return nil, err
	}
	tpl.authority = s.authority
	if s.containers, err = s.newContainers(registries, tpl); err != nil {
		return nil, err
	}
	if err := s.newUsage(); err != nil {
		return nil, err
	}
	if s.manager, err = s.newManager(tpl, s.containers, member); err != nil {
		return nil, err
	}
	if s.listener, err = s.listen(ctx); err != nil {
		return nil, err
	}
	if err := s.listenMetrics(ctx); err != nil {
		return nil, err
	}
	respond := &arm.Responder{Log: log, FullStatus: cfg.FullStatus, Path: s.loggedPath}
	files, err := descriptor.Raise()
	if err != nil {
		return nil, err
	}
	s.underWay = descriptor.NewRequests(descriptor.Share(files))
	handler, err := s.routes(log, respond)
	if err != nil {
		return nil, err
	}
	// Calls of gRPC need HTTP/2, by TLS or with prior knowledge.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{
		Handler:           handler,
		ConnState:         descriptor.NewConns(descriptor.Share(files)).Watch,
		Protocols:         &protocols,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	s.listener = respond.Refusals(s.http, s.listener)
	return s, nil
}

// newManager makes what gives identifiers their sandboxes; member is what it is to other servers.
func (s *Server) newManager(code *templates, containers *container.Containers,
	member store.Server) (*pool.Manager, error) {
	host, err := s.newMachine()
	if err != nil {
		return nil, err
	}
	if s.identities, err = s.newIdentities(); err != nil {
		return nil, err
	}
	rows := timed.Store{Store: s.store, Observe: s.metrics.Store}
	return pool.New(s.events, rows, s.engine.Runtime, pool.Options{
		Guest: func(p sandpool.Pool) (pool.Guest, error) {
			if p.Spec.Kind == sandpool.CustomContainer {
				return containers.Guest(p)
			}
			g := code.guest(s.within)
			g.Init = s.individual(p, g.Init)
			return g, nil
		},
		Service:   s.identities,
		Owner:     member.Name,
		Instance:  member.Instance,
		Address:   member.Address,
		Locations: s.cfg.Locations,
		Patience:  s.cfg.Peers.Patience,
		MaxStarts: s.cfg.Starts,
		By:        subjectOf,
		Author:    auth.Author,
		Keep:      s.keep(),
		Meter:     s.meter(),
		Claims:    s.store,
		Queue:     s.cfg.Queue,
		Quota:     s.cfg.Limits.CallerSessions,
		Machine:   host,
		Reserve:   s.cfg.Reserve.amount(),

		LightWeight: s.cfg.LightWeight,
	})
}

// openEngine opens what runs sandboxes. It sets the authority that they are to trust for hosts with
// credentials.
func (s *Server) openEngine(ctx context.Context) (_ *engine.Engine, err error) {
	if s.cfg.Engine == engine.InKubernetes {
		return engine.OpenKubernetes(ctx, s.log, s.cfg.Kubernetes, s.metrics.Engine)
	}
	cfg := s.cfg.gvisor()
	cfg.Image = func(_ context.Context, i sandbox.Image) (string, error) {
		img, err := s.images.Resolve(i.Digest)
		return img.Path, err
	}
	if cfg.Front, s.authority, err = s.cfg.Network.Front(s.cfg.egressCA()); err != nil {
		return nil, err
	}
	return engine.OpenGVisor(s.log, cfg, s.metrics.Engine)
}

// Run serves until ctx ends, then lets requests in flight finish, leaves or
// stops the sandboxes as Config.OnExit says, and returns.
func (s *Server) Run(ctx context.Context) error {
	// The manager goes on while the server shuts down: requests in flight need
	// their sandboxes, and it is the manager that stops them.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	g, stopping := errgroup.WithContext(ctx)
	// until the manager has said its last
	told, silence := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error { return s.events.Run(told) })
	g.Go(func() error { return s.tracer.Run(told) })
	g.Go(func() error { return s.recordUsage(told) })
	g.Go(func() error { return s.exported.Run(told) })
	g.Go(func() error { return s.push(stopping) })
	g.Go(func() error {
		defer silence()
		return ignoring(context.Canceled, s.manager.Run(life))
	})
	g.Go(func() error { return ignoring(http.ErrServerClosed, s.http.Serve(s.listener)) })
	g.Go(func() error { return s.issued.Run(stopping) })
	g.Go(func() error { return s.identities.Run(life) })
	g.Go(func() error { return s.servePeers(stopping) })
	g.Go(func() error { s.tidyImages(stopping); return nil })
	g.Go(func() error { s.forgetEnded(stopping, s.control.ForgetEnded); return nil })
	g.Go(func() error { return s.deployer.Run(stopping) })
	g.Go(func() error { return s.tendKeys(life) })
	g.Go(func() error { return s.serveMetrics(stopping) })
	g.Go(func() error { return s.history.Run(stopping, own{s.manager}) })
	g.Go(func() error { return s.past.Run(stopping) })
	g.Go(func() error { return s.serveLocal(stopping) })
	g.Go(func() error {
		<-stopping.Done()
		defer end()
		s.tell(context.WithoutCancel(ctx), "STOPPING=1")
		return s.shutDown(context.WithoutCancel(ctx))
	})
	s.tell(ctx, "READY=1") // connections have been taken since New
	return g.Wait()
}

// tell tells systemd; that it does not listen is no reason not to serve.
func (s *Server) tell(ctx context.Context, state string) {
	if err := systemd.Notify(ctx, state); err != nil {
		s.log.Warn("systemd does not learn of the server's state", "error", err)
	}
}

// ignoring returns err unless it is the way a part ends when it was told to.
func ignoring(expected, err error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

// shutDown ends the HTTP server and then, if so configured, every session.
func (s *Server) shutDown(ctx context.Context) error {
	s.events.EndFollowing()
	s.endFollowing()
	if s.cfg.OnExit == KeepSandboxes {
		s.handOver(ctx)
	}
	grace, cancel := context.WithTimeout(ctx, shutdownGrace)
	defer cancel()
	err := s.http.Shutdown(grace)
	if err != nil {
		s.log.Warn("requests in flight were cut off", "after", shutdownGrace)
		err = s.http.Close()
	}
	s.proxy.Close() // tunnels, which the HTTP server knows nothing of
	if s.cfg.OnExit != StopSandboxes {
		return err
	}
	stop, cancel := context.WithTimeout(ctx, stopGrace)
	defer cancel()
	return errors.Join(err, s.manager.StopAll(stop))
}

// handOver lets other servers go on with what this one leaves. What they do not get now they take
// when they miss this server.
func (s *Server) handOver(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, shutdownGrace)
	defer cancel()
	if err := s.manager.HandOver(ctx); err != nil {
		s.log.Warn("pools are not handed over", "error", err)
	}
}

// Kept is how many sandboxes stay for the next start. It may be called once Run has
// returned, before Close.
func (s *Server) Kept(ctx context.Context) (int, error) {
	rows, err := s.store.Sandboxes(ctx)
	if err != nil {
		return 0, err
	}
	holds, err := s.store.Holds(ctx)
	others := map[string]bool{} // pools of other servers, by PoolID.Key
	for _, h := range holds {
		others[h.Pool.Key()] = s.member != "" && h.Owner != s.member
	}
	kept := 0
	for _, r := range rows {
		if others[r.Pool.Key()] {
			continue
		}
		if r.State == sandpool.Ready || r.State == sandpool.Claimed {
			kept++
		}
	}
	return kept, err
}

// Close gives back what New opened. It may be called once Run has returned.
func (s *Server) Close() error {
	var errs []error
	for _, l := range []net.Listener{s.listener, s.scraped, s.peerListener} {
		if l == nil {
			continue
		}
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, s.issued.Close())
	if s.peers != nil {
		s.peers.Close()
	}
	if s.audit != nil {
		errs = append(errs, s.audit.Close())
	}
	if s.engine != nil {
		errs = append(errs, s.engine.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// URL is where callers reach the API, without a trailing slash.
func (s *Server) URL() string {
	if s.cfg.PublicURL != "" {
		return s.cfg.PublicURL
	}
	scheme := "http"
	if s.issued != nil { // addresses are in no certificate by ACME
		return "https://" + s.cfg.TLS.ACME.Hosts[0]
	}
	if s.cfg.TLS.On() {
		scheme = "https"
	}
	return scheme + "://" + s.listener.Addr().String()
}

// AdminToken is the text of the administrator's token.
func (s *Server) AdminToken() string { return s.token }

// listen opens the API's listener, with TLS if configured.
func (s *Server) listen(ctx context.Context) (_ net.Listener, err error) {
	if s.issued, err = authority.OpenACME(ctx, s.log, filepath.Join(s.cfg.DataDir, acmeDir),
		s.cfg.TLS.ACME); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	tcp, err := lc.Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w (choose another address with --listen)",
			s.cfg.Listen, err)
	}
	l := quiet.Listener{TCPListener: tcp.(*net.TCPListener)}
	conf, err := s.cfg.tls(s.log, s.issued)
	if err != nil || conf == nil {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
		return l, err
	}
	if len(conf.Certificates) > 0 {
		s.given = conf.Certificates[0].Leaf
	}
	return tls.NewListener(l, conf), nil
}

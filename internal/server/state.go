package server

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/endpoint"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/issuer"
	"github.com/sandpool/sandpool/internal/metrics"
	"github.com/sandpool/sandpool/internal/peer"
	"github.com/sandpool/sandpool/internal/server/datadir"
	"github.com/sandpool/sandpool/internal/server/vault"
	"github.com/sandpool/sandpool/internal/store"
)

// Vault says where what outlives the server is.
func (c Config) Vault() vault.Options {
	return vault.Options{DataDir: c.DataDir, Store: c.Store, Key: c.StoreKey}
}

// instanceFile is where a server keeps what tells it from another of the same name, below the data
// directory, whose lock the server holds.
const instanceFile = "server-id"

// member is what the server is to those that share its store; zero if nobody does.
func (c Config) member() (m store.Server, err error) {
	if c.Store == "" {
		return m, nil
	}
	if m.Name, err = c.serverName(); err != nil {
		return m, err
	}
	path := filepath.Join(c.DataDir, instanceFile)
	text, err := os.ReadFile(path)
	if m.Instance = strings.TrimSpace(string(text)); err == nil && m.Instance != "" {
		return m, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return m, fmt.Errorf("the server's id: %w", err)
	}
	m.Instance = rand.Text()
	if err := datadir.Write(path, m.Instance+"\n"); err != nil {
		return m, fmt.Errorf("the server's id: %w", err)
	}
	return m, nil
}

// serverName is the name under which the server owns pools and deployments; it may be empty if
// nobody shares its store.
func (c Config) serverName() (string, error) {
	if c.Store == "" || c.Name != "" {
		return c.Name, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf(
			"the machine has no host name, so the server needs the setting name: %w", err)
	}
	return name, nil
}

// peersFile is where the authority of the servers' certificates is, below the data directory.
const peersFile = "peers-ca.pem"

// agree makes the keys of this server those of all that share its store: what the first server had
// or made. The files below the data directory are copies.
func (s *Server) agree(ctx context.Context) error {
	if s.cfg.Store == "" {
		return nil
	}
	for _, each := range []struct {
		file string
		make func() (string, error)
	}{
		{mcpKeyFile, newSessionKey},
		{usageKeyFile, newSessionKey},
		{peersFile, peer.NewAuthority},
	} {
		path := filepath.Join(s.cfg.DataDir, each.file)
		had, err := os.ReadFile(path)
		offer := string(had)
		if errors.Is(err, os.ErrNotExist) {
			offer, err = each.make()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", each.file, err)
		}
		kept, err := s.store.Agree(ctx, store.Document{Kind: store.ServerSecret, Key: each.file,
			Text: base64.StdEncoding.EncodeToString([]byte(offer))})
		if err != nil {
			return err
		}
		text, err := base64.StdEncoding.DecodeString(kept.Text)
		if err != nil {
			return fmt.Errorf("%s in the store: %w", each.file, err)
		}
		if !bytes.Equal(text, had) {
			if err := datadir.Write(path, string(text)); err != nil {
				return fmt.Errorf("%s: %w", each.file, err)
			}
		}
	}
	return nil
}

// meet makes the server one of those that share its store.
func (s *Server) meet(ctx context.Context, member *store.Server) error {
	s.member = member.Name
	if err := s.agree(ctx); err != nil {
		return err
	}
	if err := s.openKeys(ctx); err != nil {
		return err
	}
	return s.listenPeers(ctx, member)
}

// issuerKeyFile is where versions before this one kept the one key of the issuer, below the data
// directory, and servers that share a store in a document of that name as well.
const issuerKeyFile = "issuer-key.pem"

// checkKeys finds what is wrong with the settings of the issuer's keys.
func (c Config) checkKeys() error {
	if c.IssuerKeyDays >= 0 && c.IssuerKeyDays <= 3650 {
		return nil
	}
	return fmt.Errorf("configuration: issuer_key_days is %d; use 0 to 3650", c.IssuerKeyDays)
}

// openKeys opens the keys of the issuer, which are in the store. That of an earlier version is the
// first, so that its tokens count on.
func (s *Server) openKeys(ctx context.Context) error {
	path := filepath.Join(s.cfg.DataDir, issuerKeyFile)
	first, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the issuer's key: %w", err)
	}
	d, err := s.store.Document(ctx, store.ServerSecret, issuerKeyFile)
	if err == nil && d.Text != "" {
		first, err = base64.StdEncoding.DecodeString(d.Text)
	}
	if err != nil && sandpool.ClassOf(err) != sandpool.NotFound {
		return fmt.Errorf("the issuer's key: %w", err)
	}
	s.keys, err = issuer.OpenKeys(ctx, issuer.KeyOptions{Store: s.store, First: string(first),
		Every: time.Duration(s.cfg.IssuerKeyDays) * 24 * time.Hour,
		Made: func(id string) {
			s.events.Observe(event.Event{Name: event.IssuerKeyMade, Message: "key " + id})
		}})
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the issuer's key, which is in the store now: %w", err)
	}
	return nil
}

// tendKeys reads the issuer's keys again, and makes the next one when it is time, until ctx ends.
func (s *Server) tendKeys(ctx context.Context) error {
	return s.keys.Run(ctx, func(err error) {
		s.events.Observe(event.Event{Name: event.IssuerKeysUnread, Err: err})
	})
}

// listenPeers makes what other servers reach this one by, and this one them. member gets the
// address. A server whose store is its own has nothing of it.
func (s *Server) listenPeers(ctx context.Context, member *store.Server) (err error) {
	p := s.cfg.Peers
	if member.Name == "" {
		return nil
	}
	if p.Listen != "" {
		var lc net.ListenConfig
		if s.peerListener, err = lc.Listen(ctx, "tcp", p.Listen); err != nil {
			return fmt.Errorf("peers.listen: %w", err)
		}
		member.Address = cmp.Or(p.Address, s.peerListener.Addr().String())
	}
	if p.Cert != "" {
		s.identity, err = peer.FromFiles(p.Cert, p.Key, p.CA)
		return err
	}
	authority, err := os.ReadFile(filepath.Join(s.cfg.DataDir, peersFile))
	if err != nil {
		return fmt.Errorf("peers: %w", err)
	}
	s.identity, err = peer.Signed(string(authority), cmp.Or(member.Address, "localhost:0"))
	return err
}

// forwarding hands requests for pools of other servers on to them, and the rest to pools and
// control, and makes the server that takes what others hand on. Both authenticate, so callers are
// verified, held to their limits and recorded by the owner alone.
func (s *Server) forwarding(log *slog.Logger, respond *arm.Responder, branch *endpoint.Branch,
	pools, control, rest http.Handler) (_, _ http.Handler, err error) {
	if s.identity == nil {
		return pools, control, nil
	}
	s.peers, err = peer.New(log, s.manager, s.identity, peer.Options{
		Fail: respond.Error,
		Find: func(r *http.Request) (id sandpool.PoolID, makes, ok bool) {
			if t, ok := endpoint.Found(r.Context()); ok {
				return t.Pool, false, true
			}
			id, ok = arm.PoolOfPath(r.URL.EscapedPath())
			return id, r.Method == http.MethodPut, ok
		},
	})
	if err != nil {
		return nil, nil, err
	}
	s.deployer.Through(arm.Trace(s.onBehalf(rest)))
	pools, control = s.peers.Middleware(pools), s.peers.Middleware(control)
	seen := branch.Split(s.metrics.Requests(metrics.Data, pools),
		s.metrics.Requests(metrics.Control, control))
	s.peerServer = &http.Server{
		Handler:           peer.Receive(arm.Trace(s.tracer.Handler(seen, arm.TraceID))),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    128 << 10, // a caller's, and what another server adds
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return pools, control, nil
}

// onBehalf has the requests of deployments, which were let in already, handed on to the servers
// that own their pools. Those let nobody in without a token: it is one of the deployment's
// principal, good for a moment. Who has none of the server's own only reads, which every server
// can.
func (s *Server) onBehalf(rest http.Handler) http.Handler {
	forwarded := s.peers.Middleware(rest)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, _ := auth.FromContext(r.Context())
		text, ok := s.clients.IssueFor(who)
		if !ok {
			rest.ServeHTTP(w, r)
			return
		}
		r.Header.Set("Authorization", "Bearer "+text)
		forwarded.ServeHTTP(w, r)
	})
}

// servePeers serves what other servers hand on, until ctx ends.
func (s *Server) servePeers(ctx context.Context) error {
	if s.peerListener == nil {
		return nil
	}
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		if s.peerServer.Shutdown(grace) != nil {
			_ = s.peerServer.Close()
		}
	})
	defer stop()
	return ignoring(http.ErrServerClosed,
		s.peerServer.Serve(tls.NewListener(s.peerListener, s.identity.Server())))
}

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/bench"
)

// extra is a way to serve `1+1` that somebody may turn on.
type extra struct {
	name     string
	settings []string
	history  bool
}

// collect is a collector of OpenTelemetry that forgets what it is sent.
func collect(ctx context.Context) (endpoint string, stop func() error, err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // a server that stops is no failure
		})}
	go func() { _ = srv.Serve(l) }() // until stop
	return "http://" + l.Addr().String(), srv.Close, nil
}

// extras measures n round trips of each of several servers, which are asked in turn.
func extras(ctx context.Context, bin, dir, images string, n int) (_ []bench.Measure, err error) {
	endpoint, stop, err := collect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = first(err, stop()) }()
	traces := "SANDPOOL_TRACES_ENDPOINT=" + endpoint
	ways := []extra{{name: "round trip, no extras"},
		{name: "round trip, traces.sample: 0",
			settings: []string{traces, "SANDPOOL_TRACES_SAMPLE=0"}},
		{name: "round trip, every request traced", settings: []string{traces}},
		{name: "round trip, history kept", history: true}}
	clients, started := make([]*client.Client, len(ways)), []*program(nil)
	defer func() {
		for _, srv := range started {
			err = first(err, srv.stop())
		}
	}()
	for i, w := range ways {
		own := filepath.Join(dir, fmt.Sprint("extra-", i))
		if err := os.Mkdir(own, 0o700); err != nil {
			return nil, err
		}
		srv, err := startServer(ctx, bin, own, images, w.settings...)
		if err != nil {
			return nil, err
		}
		started = append(started, srv)
		clients[i] = srv.client
		if err := w.prepare(ctx, srv.client); err != nil {
			return nil, err
		}
	}
	took := make([][]float64, len(ways))
	for i := range n * len(ways) {
		at := (i + i/len(ways)) % len(ways) // each comes after each of the others
		began := time.Now()
		if _, err := clients[at].Execute(ctx, extraPool, "extra", client.Run{Code: "1+1"}); err != nil {
			return nil, err
		}
		took[at] = append(took[at], float64(time.Since(began))/float64(time.Millisecond))
	}
	rows := make([]bench.Measure, len(ways))
	for i, w := range ways {
		rows[i] = bench.Summarise(w.name, "ms", "servers on one machine, asked in turn", took[i])
	}
	return rows, nil
}

const extraPool = "extra"

// prepare makes the pool, and the session that is asked.
func (e extra) prepare(ctx context.Context, c *client.Client) error {
	ready := 1
	if _, err := c.PutPool(ctx, extraPool, api.SessionPool{Location: "local",
		Properties: &api.SessionPoolProperties{ContainerType: "PythonLTS",
			Sandpool: &api.SandpoolSettings{History: &api.HistorySettings{Enabled: &e.history}},
			ScaleConfiguration: &api.ScaleConfiguration{
				ReadySessionInstances: &ready}}}); err != nil {
		return err
	}
	if _, err := c.WaitReady(ctx, extraPool, nil); err != nil {
		return err
	}
	for range 20 { // until connections and caches are there
		if _, err := c.Execute(ctx, extraPool, "extra", client.Run{Code: "1+1"}); err != nil {
			return err
		}
	}
	return nil
}

// Package streams_test reads streams of executions from a real server over TLS, and breaks them off
// anywhere.
package streams_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/server"
	"github.com/sandpool/sandpool/test/real"
)

func TestMain(m *testing.M) {
	server.HandOver()
	os.Exit(m.Run())
}

// shortBreaks is how often streams are broken off unless SANDPOOL_TEST_BREAKS says otherwise.
const shortBreaks = 300

// patience is how long an execution may take on a machine that others use; it only ends a hang.
const patience = 5 * time.Minute

// pool reads the streams of one session.
type pool struct {
	http  *http.Client
	url   string // of its executions
	token string
}

// TestBreaks: a reader that is cut off at any byte, again and again, and goes on after the last
// event that it has whole, loses nothing and gets nothing twice: from each language, in both forms,
// while the code runs and when it has ended.
func TestBreaks(t *testing.T) {
	most := shortBreaks
	if text := os.Getenv("SANDPOOL_TEST_BREAKS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("SANDPOOL_TEST_BREAKS=%q is not a number", text)
		}
		most = n
	}
	srv, c := start(t)
	breaks := atomic.Int64{}
	kinds := map[string]struct {
		kind sandpool.ContainerType
		body string // %d lines, a display now and then where there are any
	}{
		"python": {sandpool.PythonLTS, `{"code":"import time\nfor i in range(%d):\n    print('line', i, 'äö漢', flush=i %% 9 == 0)\n    if i %% 50 == 0: display({'text/plain': f'd{i}'}, raw=True); time.sleep(0.002)"}`},
		"node":   {sandpool.NodeLTS, `{"code":"for (let i = 0; i < %d; i++) { console.log('line', i, 'äö漢'); if (i %% 50 === 0) { display.mime({'text/plain': 'd' + i}); await new Promise((r) => setTimeout(r, 2)) } }"}`},
		"shell":  {sandpool.Shell, `{"shellCommand":"for ((i = 0; i < %d; i++)); do echo line $i äö漢; done"}`},
	}
	var readers sync.WaitGroup
	for name, k := range kinds {
		ready := 1
		if _, err := c.PutPool(t.Context(), name, api.SessionPool{Location: "local",
			Properties: &api.SessionPoolProperties{ContainerType: string(k.kind),
				ScaleConfiguration: &api.ScaleConfiguration{ReadySessionInstances: &ready}},
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.WaitReady(t.Context(), name, nil); err != nil {
			t.Fatal(err)
		}
		p := newPool(t, srv, c, name)
		readers.Go(func() {
			for round := 0; breaks.Load() < int64(most) && !t.Failed(); round++ {
				p.round(t, fmt.Sprintf(k.body, 400), fmt.Sprintf("e%d", round), &breaks)
			}
		})
	}
	readers.Wait()
	t.Logf("%d breaks", breaks.Load())
	if breaks.Load() < int64(most) {
		t.Errorf("%d breaks, want %d", breaks.Load(), most)
	}
}

// start starts a server with a certificate of its own, and a client that trusts it.
func start(t *testing.T) (*real.Server, *client.Client) {
	t.Helper()
	ca := ""
	srv := real.Start(t, func(c *server.Config) {
		c.TLS.Auto = true
		ca = c.CAFile()
	})
	c, err := client.New(client.Config{Endpoint: srv.URL(), Token: srv.AdminToken(), CA: ca})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	return srv, c
}

func newPool(t *testing.T, srv *real.Server, c *client.Client, name string) *pool {
	t.Helper()
	text, err := os.ReadFile(c.CA())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		t.Fatal("the server's authority has no certificate")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return &pool{http: &http.Client{Transport: transport}, token: srv.AdminToken(),
		url: fmt.Sprintf("%s/subscriptions/%s/resourceGroups/%s/sessionPools/%s/executions", srv.URL(),
			sandpool.DefaultSubscription, sandpool.DefaultResourceGroup, name)}
}

// round starts an execution and has two readers of it, one for each form.
func (p *pool) round(t *testing.T, body, id string, breaks *atomic.Int64) {
	resp, err := p.ask(t.Context(), http.MethodPost, "", url.Values{}, http.Header{
		"Operation-Id": {id}, "Content-Type": {"application/json"}},
		strings.TrimSuffix(body, "}")+`,"executionType":"Asynchronous"}`)
	if err != nil {
		t.Error(err)
		return
	}
	text, _ := io.ReadAll(resp.Body)
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusAccepted {
		t.Errorf("%s: %s %s", id, resp.Status, text)
		return
	}
	var readers sync.WaitGroup
	for _, form := range []string{"text/event-stream", "application/x-ndjson"} {
		readers.Go(func() {
			if err := p.follow(t.Context(), id, form, breaks); err != nil {
				t.Errorf("%s of %s as %s: %v", id, p.url, form, err)
			}
		})
	}
	readers.Wait()
}

// follow reads an execution's events by as many connections as it takes, and checks that they are
// all and are what the execution says at its end.
func (p *pool) follow(ctx context.Context, id, form string, breaks *atomic.Int64) error {
	var out strings.Builder
	for last := int64(0); ; breaks.Add(1) {
		events, err := p.some(ctx, id, form, last)
		if err != nil {
			return fmt.Errorf("after event %d of %w; %s", last, err, p.state(ctx, id))
		}
		for _, e := range events {
			if e.Sequence != last+1 {
				return fmt.Errorf("event %d comes after %d", e.Sequence, last)
			}
			last = e.Sequence
			switch e.Type {
			case "stdout":
				out.WriteString(e.Text)
			case "result":
				return p.check(ctx, id, out.String())
			case "error":
				return fmt.Errorf("the stream ends: %+v", e.Error)
			}
		}
	}
}

// some returns the events of one connection that came whole. It is broken off at a random byte:
// before its first event, within the first ones, or after up to 16 KiB.
func (p *pool) some(ctx context.Context, id, form string, last int64) ([]api.ExecutionEvent,
	error) {
	ctx, cut := context.WithTimeout(ctx, patience)
	defer cut()
	query, header := url.Values{}, http.Header{"Accept": {form}}
	if form == "text/event-stream" && rand.IntN(2) == 0 {
		header.Set("Last-Event-ID", strconv.FormatInt(last, 10))
	} else {
		query.Set("after", strconv.FormatInt(last, 10))
	}
	resp, err := p.ask(ctx, http.MethodGet, "/"+id, query, header, "")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		return nil, fmt.Errorf("%s: %s", resp.Status, text)
	}
	size := []int64{rand.Int64N(100), rand.Int64N(2000), rand.Int64N(16 << 10)}[rand.IntN(3)]
	var events []api.ExecutionEvent
	lines := bufio.NewReader(io.LimitReader(resp.Body, size))
	for {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return events, nil // the rest of a line is not whole
		}
		if err != nil {
			return nil, err
		}
		text, data := strings.CutPrefix(line, "data: ")
		if !data && form == "text/event-stream" || strings.TrimSpace(text) == "" {
			continue
		}
		var e api.ExecutionEvent
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		events = append(events, e)
	}
}

// state is what is known of an execution whose stream has failed.
func (p *pool) state(ctx context.Context, id string) string {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	resp, err := p.ask(ctx, http.MethodGet, "/"+id, url.Values{}, http.Header{}, "")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	return fmt.Sprintf("the execution is %s %s %v", resp.Status, text, err)
}

// check compares what was read with the execution.
func (p *pool) check(ctx context.Context, id, out string) error {
	resp, err := p.ask(ctx, http.MethodGet, "/"+id, url.Values{}, http.Header{}, "")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var e struct {
		Status string
		Result struct{ Stdout string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
		return err
	}
	if e.Status != api.StatusSucceeded || e.Result.Stdout != out ||
		strings.Count(out, "\n") != 400 || !slices.Contains(strings.Split(out, "\n"), "line 399 äö漢") {
		return fmt.Errorf("the execution is %q with %d bytes, its stream had %d", e.Status,
			len(e.Result.Stdout), len(out))
	}
	return nil
}

func (p *pool) ask(ctx context.Context, method, path string, query url.Values, header http.Header,
	body string) (*http.Response, error) {
	query.Set("identifier", "breaks")
	req, err := http.NewRequestWithContext(ctx, method, p.url+path+"?"+query.Encode(),
		strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = header.Clone()
	req.Header.Set("Authorization", "Bearer "+p.token)
	return p.http.Do(req)
}

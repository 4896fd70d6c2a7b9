package kubetest

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
)

// said is what containers wrote unless Write says otherwise.
const said = "the dog ate my interpreter"

// line is a line of a log.
type line struct {
	at   time.Time
	text string
}

// Write has the container of a pod write a line, at a time.
func (c *Cluster) Write(name string, at time.Time, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logs[name] = append(c.logs[name], line{at, text})
	c.wake()
}

// BreakLogs ends the logs that are read, and each of the next ones after a number of bytes.
func (c *Cluster) BreakLogs(after ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = append(c.broken, after...)
	c.cuts++
	c.wake()
}

// breaking is an answer that ends after some bytes.
type breaking struct {
	http.ResponseWriter
	left int
}

// Write implements io.Writer.
func (b *breaking) Write(p []byte) (int, error) {
	n, err := b.ResponseWriter.Write(p[:min(len(p), b.left)])
	if b.left -= n; b.left == 0 {
		b.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// Measure sets what the metrics API says of pods; nil means that there is none.
func (c *Cluster) Measure(items []any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.measured = items
}

// Meter has the metrics API answer nobody until answer is closed.
func (c *Cluster) Meter(answer chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.metered = answer
}

// metrics serves the metrics API.
func (c *Cluster) metrics(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	wait := c.metered
	c.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-r.Context().Done():
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.denied == "list metrics" {
		refuse(w, http.StatusForbidden, "Forbidden", "pods.metrics.k8s.io is forbidden")
		return
	}
	if c.measured == nil {
		refuse(w, http.StatusNotFound, "NotFound", "the server could not find the resource")
		return
	}
	answer(w, http.StatusOK, map[string]any{"items": c.measured})
}

// log serves a log as the API server does: whole lines, from the second of sinceTime on, each
// behind its time if that is asked for, until the container ends if that is.
func (c *Cluster) log(w http.ResponseWriter, r *http.Request, name string) {
	query := r.URL.Query()
	since, err := time.Parse(time.RFC3339, query.Get("sinceTime"))
	if query.Get("sinceTime") != "" && err != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	c.mu.Lock()
	cuts := c.cuts
	out := io.Writer(w)
	if len(c.broken) > 0 {
		out, c.broken = &breaking{w, c.broken[0]}, c.broken[1:]
	}
	c.mu.Unlock()
	for sent := 0; ; {
		c.mu.Lock()
		p, lines, news := c.pods[name], c.logs[name], c.news
		over, cut := p == nil || p.ended || c.closed, cuts != c.cuts
		pending := p != nil && p.is.Status.Phase == rest.Pending
		c.mu.Unlock()
		if cut {
			return
		}
		if p == nil && sent == 0 {
			refuse(w, http.StatusNotFound, "NotFound", fmt.Sprintf("pods %q not found", name))
			return
		}
		if pending {
			refuse(w, http.StatusBadRequest, "BadRequest", "the container is waiting to start")
			return
		}
		if len(lines) == 0 && query.Get("timestamps") == "" {
			fmt.Fprintln(w, said)
			return
		}
		for _, l := range lines[sent:] {
			if sent++; l.at.Before(since) {
				continue
			}
			if query.Get("timestamps") != "" {
				fmt.Fprint(out, l.at.UTC().Format(time.RFC3339Nano), " ")
			}
			fmt.Fprintln(out, l.text)
		}
		if query.Get("follow") == "" || over {
			return
		}
		w.(http.Flusher).Flush()
		select {
		case <-news:
		case <-r.Context().Done():
			return
		}
	}
}

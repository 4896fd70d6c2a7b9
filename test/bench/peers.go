package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/bench"
	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor"
)

// How often a peer is measured: once in so many samples of ours.
const (
	processEvery = 4
	bootEvery    = 20
)

// answerPort is where the booted peer answers.
const answerPort = 8000

// answerScript is the smallest server that computes its answer in the sandbox's own Python.
const answerScript = `
import http.server
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = str(eval("1+1")).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
http.server.HTTPServer(("127.0.0.1", 8000), H).serve_forever()
`

// warmImports are what users of an interpreter sandbox expect to be there at once.
const warmImports = "import IPython, numpy, pandas, matplotlib.pyplot"

// boots are the two ways to boot for a call: as bare as can be, which no sandbox of ours is,
// and with what ours have imported.
func boots() []boot {
	return []boot{
		{name: "peer: fresh gVisor boot, bare", how: "nothing imported", script: answerScript},
		{name: "peer: fresh gVisor boot, warmed up", how: warmImports, script: warmImports +
			answerScript},
	}
}

// boot is a way to boot, and how long each took in ms.
type boot struct {
	name, how, script string
	prepared          sandbox.Prepared
	took              []float64
}

// peers are what sandpool is compared with.
type peers struct {
	python  string // the real interpreter, not a wrapper script
	engine  *gvisor.Engine
	process []float64 // ms
	boots   []boot
}

func newPeers(ctx context.Context, dir, images string) (_ *peers, err error) {
	p := &peers{boots: boots()}
	out, err := exec.CommandContext(ctx, "python3", "-c",
		"import sys; print(sys.executable)").Output()
	if err != nil {
		return nil, fmt.Errorf("find python3: %w", err)
	}
	p.python = strings.TrimSpace(string(out))
	store, err := image.Open(images)
	if err != nil {
		return nil, err
	}
	img, err := store.Resolve("python")
	if err != nil {
		return nil, err
	}
	p.engine, err = gvisor.New(slog.New(slog.DiscardHandler),
		gvisor.Config{Root: filepath.Join(dir, "peer"), CgroupParent: "sandpool-bench"})
	if err != nil {
		return nil, fmt.Errorf("engine of the peer: %w", err)
	}
	for i := range p.boots {
		if p.boots[i].prepared, err = p.engine.Prepare(ctx, template(img, p.boots[i].script),
			nil); err != nil {
			return nil, errors.Join(fmt.Errorf("prepare the booting peer: %w", err),
				p.engine.Close())
		}
	}
	return p, nil
}

// template is a sandbox of the image that runs a script instead of the agent.
func template(img image.Image, script string) sandbox.Template {
	return sandbox.Template{
		Root: img.Root(),
		Args: []string{"/usr/bin/python3", "-c", script},
		Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "MPLCONFIGDIR=/tmp",
			"HOME=/tmp"},
		Dir:     "/",
		Ready:   sandpool.Probe{HTTP: sandpool.HTTPProbe{Port: answerPort}},
		Start:   sandbox.Boot,
		Limits:  sandpool.Resources{CPU: 1, Memory: 1 << 30, PIDs: 1024, Disk: 1 << 30},
		Network: sandpool.Network{Status: sandpool.EgressDisabled},
	}
}

func (p *peers) close() error { return p.engine.Close() }

// between is called between samples of ours.
func (p *peers) between(ctx context.Context, sample int) error {
	if sample%processEvery == 0 {
		if err := p.runProcess(ctx); err != nil {
			return err
		}
	}
	if sample%bootEvery != 0 {
		return nil
	}
	for i := range p.boots {
		if err := p.runBoot(ctx, &p.boots[i]); err != nil {
			return err
		}
	}
	return nil
}

func (p *peers) runProcess(ctx context.Context) error {
	begin := time.Now()
	out, err := exec.CommandContext(ctx, p.python, "-c", "print(1+1)").Output()
	took := time.Since(begin)
	if err != nil || strings.TrimSpace(string(out)) != "2" {
		return fmt.Errorf("plain process: %q, %w", out, err)
	}
	p.process = append(p.process, ms(took))
	return nil
}

func (p *peers) runBoot(ctx context.Context, b *boot) (err error) {
	id := sandbox.ID("peer" + strings.ToLower(rand.Text()[:12]))
	begin := time.Now()
	h, err := p.engine.Start(ctx, id, b.prepared)
	if err != nil {
		return fmt.Errorf("boot the peer: %w", err)
	}
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = first(err, p.engine.Stop(clean, h))
	}()
	if err := p.ask(ctx, h); err != nil {
		return fmt.Errorf("ask the peer: %w", err)
	}
	b.took = append(b.took, ms(time.Since(begin)))
	return nil
}

func (p *peers) ask(ctx context.Context, h sandbox.Handle) error {
	conn, err := p.engine.Dial(ctx, h, answerPort)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "2" {
		return fmt.Errorf("the answer is %q, %w", body, err)
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (p *peers) measures() []bench.Measure {
	list := []bench.Measure{
		bench.Summarise("peer: plain python3 process", "ms", p.python+
			" -c 'print(1+1)' from start to exit; no isolation, nothing imported", p.process),
	}
	for _, b := range p.boots {
		list = append(list, bench.Summarise(b.name, "ms",
			"the same image booted for the call, to the first answer of its Python; "+
				b.how, b.took))
	}
	return list
}

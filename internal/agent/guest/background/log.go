package background

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/agent"
)

// attend takes what a process puts out, until nobody can put out more, and how it ends.
func (g *Registry) attend(p *process, exit <-chan syscall.WaitStatus) {
	var streams sync.WaitGroup
	begin := func() {
		for i, r := range p.ends {
			streams.Go(func() { g.take(p, i, r) })
		}
	}
	begin()
	status := <-exit
	g.mu.Lock()
	p.gone = true
	g.mu.Unlock()
	// What it has left in its pipes comes before its end; nobody waits for what others, who have
	// the pipes too, may put there.
	for _, r := range p.ends {
		_ = r.SetReadDeadline(time.Now()) // it may be closed
	}
	streams.Wait()
	for i, r := range p.ends {
		_ = r.SetReadDeadline(time.Time{})
		g.rest(p, i, r)
	}
	g.end(p, status)
	begin()
}

// take takes what comes from a stream, until its end or its deadline.
func (g *Registry) take(p *process, stream int, r *os.File) {
	chunk := make([]byte, 32<<10)
	for {
		n, err := r.Read(chunk)
		g.add(p, stream, chunk[:n])
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				_ = r.Close()
			}
			return
		}
	}
}

// maxPipe is the most that a pipe holds, unless the system's administrator allows more.
const maxPipe = 1 << 20

// rest takes what is in a stream without waiting for more.
func (g *Registry) rest(p *process, stream int, r *os.File) {
	conn, err := r.SyscallConn()
	if err != nil {
		return // closed: at its end
	}
	chunk := make([]byte, 32<<10)
	_ = conn.Read(func(fd uintptr) bool {
		for all := 0; all < maxPipe; {
			n, err := unix.Read(int(fd), chunk)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if n <= 0 {
				break
			}
			all += n
			g.add(p, stream, chunk[:n])
		}
		return true
	})
}

// end records how a process ended.
func (g *Registry) end(p *process, status syscall.WaitStatus) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p.view.Ended = time.Now()
	if status.Signaled() {
		p.view.Signal = int(status.Signal())
	} else {
		code := status.ExitStatus()
		p.view.ExitCode = &code
	}
	p.ended = true
	p.wake()
}

// add appends to a log, as whole runes.
func (g *Registry) add(p *process, stream int, data []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	data = append(p.parts[stream], data...)
	whole := data
	for i := 1; i < utf8.UTFMax && i <= len(data); i++ {
		if c := data[len(data)-i]; utf8.RuneStart(c) {
			if !utf8.FullRune(data[len(data)-i:]) {
				whole = data[:len(data)-i]
			}
			break
		}
	}
	p.parts[stream] = slices.Clone(data[len(whole):])
	if len(whole) == 0 {
		return
	}
	p.number++
	r := agent.ProcessRecord{Number: p.number}
	if stream == 0 {
		r.Stdout = strings.ToValidUTF8(string(whole), "\uFFFD")
	} else {
		r.Stderr = strings.ToValidUTF8(string(whole), "\uFFFD")
	}
	p.records = append(p.records, r)
	p.bytes += size(r)
	drop := 0
	for ; p.bytes > agent.MaxBackgroundLog; drop++ {
		p.bytes -= size(p.records[drop])
	}
	if drop > 0 {
		p.records = slices.Delete(p.records, 0, drop)
	}
	p.wake()
}

// size is what a record takes of memory, about.
func size(r agent.ProcessRecord) int { return 128 + len(r.Stdout) + len(r.Stderr) }

// wake tells readers that there is more. The caller holds mu.
func (p *process) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// taken reports whether the id of a process that is gone is another's by now. While there is
// anything in its group or its session no other process gets it. The caller holds mu.
func (p *process) taken() bool { return p.gone && unix.Kill(p.view.PID, 0) == nil }

// Read calls emit with the records after a number, and, with follow, those to come until the end of
// the process, of which the last record tells. over ends it early.
func (g *Registry) Read(id string, after int64, follow bool, over <-chan struct{},
	emit func(agent.ProcessRecord) error) error {
	for first := (*process)(nil); ; {
		g.mu.Lock()
		p := g.find(id)
		if p == nil || first != nil && p != first { // another has its name
			g.mu.Unlock()
			return unknown(id)
		}
		first = p
		var some []agent.ProcessRecord
		for _, r := range p.records {
			if r.Number > after {
				some = append(some, r)
			}
		}
		view, last, changed := p.view, p.ended || !follow, p.changed
		number := p.number
		g.mu.Unlock()
		if len(some) > 0 && some[0].Number > after+1 {
			some[0].Lost = some[0].Number - after - 1
		}
		for _, r := range some {
			if err := emit(r); err != nil {
				return err
			}
			after = r.Number
		}
		if last {
			return emit(agent.ProcessRecord{Number: number, Process: &view})
		}
		select {
		case <-changed:
		case <-over:
			return io.ErrUnexpectedEOF
		}
	}
}

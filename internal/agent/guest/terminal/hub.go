package terminal

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// Hub keeps terminals with a name, which live on without a connection and may have several. Who
// comes gets what was written last, and then what comes. The zero value is an empty Hub.
//
// A viewer that takes nothing for viewerTime is cut off: until then the programs wait for it, which
// is how none gets less than another.
type Hub struct {
	mu  sync.Mutex // guards all, and the fields of each Shared that say so
	all map[string]*Shared
}

const (
	// recent is how many bytes of output are kept for who comes.
	recent = 256 << 10
	// viewerTime is how long output waits for a viewer.
	viewerTime = 5 * time.Second
	// backlog is how many pieces a viewer may be behind. It holds all that is recent.
	backlog = 2*recent/agent.MaxTerminalData + 8
)

// Shared is one terminal of a Hub.
type Shared struct {
	h       *Hub
	name    string
	t       *Terminal
	created time.Time

	// Guarded by the Hub's mu.
	size     agent.TerminalSize
	recent   []byte
	viewers  []*viewer
	detached time.Time // when the last viewer went, or it was made
	over     bool      // viewers come too late
}

// viewer is a connection. Its goroutine sends what is in its channel, until that is closed.
type viewer struct {
	conn   net.Conn
	pieces chan []byte
	cut    chan struct{} // closed when it takes no more
	once   sync.Once     // guards that
	end    *agent.TerminalExit
}

// View serves a connection as a viewer, until it or the terminal is over. The size of a terminal is
// that of the last viewer to tell one.
func (s *Shared) View(conn net.Conn, size agent.TerminalSize) {
	defer conn.Close()
	v := &viewer{conn: conn, pieces: make(chan []byte, backlog), cut: make(chan struct{})}
	if !s.join(v, size) {
		return // it has just ended: who comes again gets another
	}
	_ = resize(s.t.master, size) // fails only if the terminal is over, of which the pump tells
	received := make(chan struct{})
	go func() {
		defer close(received)
		s.t.receive(conn, func(size agent.TerminalSize) {
			s.h.mu.Lock()
			defer s.h.mu.Unlock()
			s.size = size
		})
		v.leave()
	}()
	v.send()
	_ = conn.Close()
	<-received
	s.part(v)
}

// Full is the error of a terminal too many.
func Full() error {
	return &sandpool.Error{Class: sandpool.Unavailable, Code: "TooManyTerminals",
		RetryAfter: time.Second,
		Message: fmt.Sprintf("%d terminals of this session are open already. Close one of them.",
			agent.MaxTerminals)}
}

// Find returns the named terminal, which open makes if there is none. If there are too many, the
// one that has been without a viewer for longest makes room.
func (h *Hub) Find(name string, size agent.TerminalSize, open func() (*Terminal,
	error)) (*Shared, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.all[name]; s != nil {
		return s, nil
	}
	if len(h.all) >= agent.MaxTerminals {
		if err := h.evict(); err != nil {
			return nil, err
		}
	}
	t, err := open()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	s := &Shared{h: h, name: name, t: t, created: now, detached: now, size: size}
	if h.all == nil {
		h.all = map[string]*Shared{}
	}
	h.all[name] = s
	go s.pump()
	return s, nil
}

// evict takes away the terminal that has been without a viewer for longest. The caller holds mu.
func (h *Hub) evict() error {
	var oldest *Shared
	for _, s := range h.all {
		if len(s.viewers) == 0 && (oldest == nil || s.detached.Before(oldest.detached)) {
			oldest = s
		}
	}
	if oldest == nil {
		return Full()
	}
	delete(h.all, oldest.name)
	go func() { _ = oldest.t.Close() }()
	return nil
}

// join makes v a viewer, which begins with what is recent. It is false if that is too late.
func (s *Shared) join(v *viewer, size agent.TerminalSize) bool {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if s.over {
		return false
	}
	for chunk := range slices.Chunk(s.recent, agent.MaxTerminalData) {
		v.pieces <- slices.Clone(chunk) // which has room for all of it
	}
	s.size = size
	s.viewers = append(s.viewers, v)
	return true
}

func (s *Shared) part(v *viewer) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.viewers = slices.DeleteFunc(s.viewers, func(o *viewer) bool { return o == v })
	s.detached = time.Now()
}

// pump carries output to all viewers until the shell has ended.
func (s *Shared) pump() {
	buf := make([]byte, agent.MaxTerminalData)
	for {
		n, err := s.t.master.Read(buf)
		if n > 0 {
			s.give(slices.Clone(buf[:n]))
		}
		if err != nil {
			break
		}
	}
	<-s.t.over
	for rest := 0; rest < maxRest; {
		n, err := readNow(s.t.master, buf)
		if n == 0 || err != nil {
			break
		}
		s.give(slices.Clone(buf[:n]))
		rest += n
	}
	s.h.mu.Lock()
	s.over = true
	if s.h.all[s.name] == s {
		delete(s.h.all, s.name)
	}
	viewers := slices.Clone(s.viewers)
	s.h.mu.Unlock()
	end := exitOf(s.t.status)
	for _, v := range viewers {
		v.end = &end
		close(v.pieces) // nobody else sends to it
	}
	_ = s.t.Close()
}

// give hands a piece to all viewers, and cuts off who does not take it.
func (s *Shared) give(piece []byte) {
	s.h.mu.Lock()
	s.recent = append(s.recent, piece...)
	if over := len(s.recent) - recent; over > 0 {
		s.recent = slices.Delete(s.recent, 0, over)
	}
	viewers := slices.Clone(s.viewers)
	s.h.mu.Unlock()
	for _, v := range viewers {
		select {
		case v.pieces <- piece:
			continue
		case <-v.cut:
			continue
		default:
		}
		late := time.NewTimer(viewerTime)
		select {
		case v.pieces <- piece:
		case <-v.cut:
		case <-late.C:
			v.leave()
		}
		late.Stop()
	}
}

// leave cuts the viewer off.
func (v *viewer) leave() {
	v.once.Do(func() {
		close(v.cut)
		_ = v.conn.SetDeadline(time.Unix(1, 0))
	})
}

// send carries what the viewer is given.
func (v *viewer) send() {
	frames := agent.NewTerminalWriter(v.conn)
	for {
		select {
		case <-v.cut:
			return
		case piece, more := <-v.pieces:
			if !more {
				// a viewer that is gone need not know
				_ = frames.Send(agent.TerminalEnd, v.end.Encode())
				return
			}
			if frames.Send(agent.TerminalData, piece) != nil {
				return
			}
		}
	}
}

// List describes the terminals by their names.
func (h *Hub) List() []agent.TerminalInfo {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := []agent.TerminalInfo{}
	for name, s := range h.all {
		list = append(list, agent.TerminalInfo{Name: name, PID: s.t.pid, Created: s.created,
			Columns: s.size.Columns, Rows: s.size.Rows, Viewers: len(s.viewers)})
	}
	slices.SortFunc(list, func(a, b agent.TerminalInfo) int {
		return strings.Compare(a.Name, b.Name)
	})
	return list
}

// End hangs a terminal up.
func (h *Hub) End(name string) error {
	h.mu.Lock()
	s := h.all[name]
	delete(h.all, name)
	h.mu.Unlock()
	if s == nil {
		return sandpool.Errorf(sandpool.NotFound, "TerminalNotFound", "name",
			"The session has no terminal %.64q.", name)
	}
	return s.t.Close()
}

package egress

import (
	"slices"
	"sync"

	"github.com/sandpool/sandpool"
)

// logSize bounds what is remembered of one sandbox's refusals.
const logSize = 64

// Log remembers the last refusals of a sandbox. The same one again is counted, so that a loop does
// not hide everything else. It is for use by many goroutines.
type Log struct {
	mu     sync.Mutex
	names  int64
	closed int64              // connections, after they were looked into
	recent []sandpool.Refusal // oldest first
}

// NewLog returns an empty log.
func NewLog() *Log { return &Log{} }

// Add remembers a refusal, and reports whether it is a new one.
func (l *Log) Add(r sandpool.Refusal) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Port == 0 && r.Protocol == dnsProtocol {
		l.names++
	}
	r.Count = 1
	i := slices.IndexFunc(l.recent, func(o sandpool.Refusal) bool {
		return o.Host == r.Host && o.Port == r.Port && o.Protocol == r.Protocol &&
			o.Reason == r.Reason
	})
	fresh := i < 0
	if !fresh {
		r.Count += l.recent[i].Count
		l.recent = slices.Delete(l.recent, i, i+1)
	} else if len(l.recent) == logSize {
		l.recent = slices.Delete(l.recent, 0, 1)
	}
	l.recent = append(l.recent, r)
	return fresh
}

// AddConnection remembers a refusal of a connection that had got as far as to be looked into, which
// no filter has counted.
func (l *Log) AddConnection(r sandpool.Refusal) bool {
	l.mu.Lock()
	l.closed++
	l.mu.Unlock()
	return l.Add(r)
}

// Read returns how many names and inspected connections were refused, and the last refusals, newest
// first.
func (l *Log) Read() (names, connections int64, recent []sandpool.Refusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	recent = slices.Clone(l.recent)
	slices.Reverse(recent)
	return l.names, l.closed, recent
}

// dnsProtocol is the protocol of a refused name.
const dnsProtocol = "dns"

// Package crowd is what the control plane says of how full pools treat further callers: whether
// they wait, and whether the session that has been idle longest makes room for them.
package crowd

import (
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// Bounds of the settings. Nobody waits longer than clients and proxies wait for an answer.
const (
	most        = 1000
	mostWait    = 60
	defaultWait = 10
	mostIdle    = 24 * 60 * 60
)

// Targets of errors.
const (
	queue = "properties.sandpool.queue"
	idle  = "properties.sandpool.evictIdleAfterInSeconds"
	code  = "SessionPoolInvalidProperty"
)

func invalid(target, format string, args ...any) *sandpool.Error {
	return sandpool.Errorf(sandpool.Invalid, code, target, "%s "+format,
		append([]any{target}, args...)...)
}

// Queue reads how callers wait; nil means as the server says.
func Queue(q *api.Queue) (*sandpool.Queue, *sandpool.Error) {
	if q == nil {
		return nil, nil
	}
	wait := int64(defaultWait)
	if q.WaitInSeconds != nil {
		wait = *q.WaitInSeconds
	}
	switch {
	case q.Length == nil:
		return nil, invalid(queue+".length",
			"is missing; say how many callers may wait, or 0 for none.")
	case *q.Length < 0 || *q.Length > most:
		return nil, invalid(queue+".length", "is %d; use 0 to %d.", *q.Length, most)
	case *q.Length == 0: // a patch may have left the other setting there
		return &sandpool.Queue{}, nil
	case wait < 1 || wait > mostWait:
		return nil, invalid(queue+".waitInSeconds", "is %d; use 1 to %d.", wait, mostWait)
	}
	return &sandpool.Queue{Length: int(*q.Length), Wait: time.Duration(wait) * time.Second}, nil
}

// QueueSettings is the inverse of Queue.
func QueueSettings(q *sandpool.Queue) *api.Queue {
	if q == nil {
		return nil
	}
	length, wait := int64(q.Length), int64(q.Wait/time.Second)
	out := &api.Queue{Length: &length}
	if wait != 0 {
		out.WaitInSeconds = &wait
	}
	return out
}

// EvictIdle reads for how long a session has been idle that makes room; zero means that none does.
func EvictIdle(seconds *int64, lifecycle sandpool.LifecycleType) (time.Duration,
	*sandpool.Error) {
	switch {
	case seconds == nil:
		return 0, nil
	case *seconds < 0 || *seconds > mostIdle:
		return 0, invalid(idle, "is %d; use 1 to %d, or 0 for never.", *seconds, mostIdle)
	case *seconds > 0 && lifecycle == sandpool.OnContainerExit:
		return 0, invalid(idle, "has no meaning with %s: its sessions work without requests. "+
			"Leave it out.", lifecycle)
	}
	return time.Duration(*seconds) * time.Second, nil
}

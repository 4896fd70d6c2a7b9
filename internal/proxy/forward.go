package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sandpool/sandpool"
)

// smallBody is what is read of a request before it is sent, if its length is known and no more
// than this: head and body then leave in one write, and no second goroutine is needed.
const smallBody = 16 << 10

// continueWait is how long a body waits for the container's 100, as in curl and Go's client;
// what does not know the expectation answers nothing.
const continueWait = time.Second

// An exchange is one request over HTTP/1.1 and its answer.
type exchange struct {
	p       *Proxy
	s       *session
	hold    Session // nil once it knows that the answer goes on
	w       http.ResponseWriter
	control *http.ResponseController
	r       *http.Request
	t       Target
	upgrade string

	st *stream
	// out is the request's head, with a small body behind it.
	out  []byte
	kind bodyKind
	// sent receives the sender's result; nil if there is none or it has been received.
	sent chan error
	// reading guards the deadline of the caller's body, whether a read of it is under way, and
	// over, which says that no deadline may be set any more: the body is read by another
	// goroutine, and once the handler has returned the server's connection is no longer ours to
	// touch.
	reading sync.Mutex
	inRead  bool
	over    bool
	// fault is why the caller's body did not come, known before the stream is aborted for it.
	fault atomic.Pointer[errBody]
	head  head
	// wrote is when the caller's deadline was last set.
	wrote   time.Time
	started bool
}

func newExchange(p *Proxy, s *session, q Request) *exchange {
	return &exchange{p: p, s: s, hold: q.hold, w: q.w, control: http.NewResponseController(q.w),
		r: q.r, t: q.t, kind: kindOf(q.r)}
}

// forward1 forwards a request by HTTP/1.1.
func (p *Proxy) forward1(q Request, s *session) (err error) {
	x := newExchange(p, s, q)
	r, t := q.r, q.t
	x.upgrade = upgradeOf(r)
	size := smallBuffer
	if r.ContentLength > smallBuffer/2 {
		size = largeBuffer
	}
	x.out = p.appendHead(p.buffers.get(size)[:0], r, t, x.upgrade)
	defer func() { p.buffers.put(x.out) }()
	if err := x.takeSmallBody(); err != nil {
		return err
	}
	for anew := false; ; anew = true {
		if x.st, err = s.take(r.Context(), t.Port, anew); err != nil {
			return err
		}
		again, err := x.try()
		if !again {
			return err
		}
	}
}

// takeSmallBody puts a body that is short and on its way behind the head.
func (x *exchange) takeSmallBody() error {
	if x.kind != sizedBody || x.r.ContentLength > smallBody || expects(x.r) {
		return nil
	}
	_ = x.control.SetReadDeadline(time.Now().Add(x.p.options.Stall)) // tests' writers have none
	from := len(x.out)
	x.out = append(x.out, make([]byte, x.r.ContentLength)...)
	if _, err := io.ReadFull(x.r.Body, x.out[from:]); err != nil {
		return callerFault(err)
	}
	_ = x.control.SetReadDeadline(time.Time{})
	x.kind = noBody
	return nil
}

// callerFault is the error of a body that did not come.
func callerFault(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &sandpool.Error{Class: sandpool.Invalid, Code: "RequestTimeout", Target: "body",
			Message: "The request body came too slowly.", Err: err}
	}
	return &sandpool.Error{Class: sandpool.Invalid, Target: "body",
		Message: "The request body did not arrive whole.", Err: err}
}

// try makes the exchange on x.st. again is true if a stream that had been used before was closed
// instead of an answer, and the request may be sent a second time.
func (x *exchange) try() (again bool, err error) {
	st := x.st
	st.received, st.flush = 0, nil
	stop := context.AfterFunc(x.r.Context(), st.abort)
	hijacked, reusable := false, false
	defer func() {
		if x.sent != nil {
			x.stopSending()
		}
		switch {
		case hijacked:
		case stop() && reusable && err == nil:
			x.s.give(st)
		default:
			x.s.drop(st)
		}
	}()
	st.writing()
	if _, err := st.Write(x.out); err != nil {
		return x.failed(err)
	}
	if err := x.sendBody(); err != nil {
		return x.failed(err)
	}
	if x.head.status == 0 {
		if err := x.finalHead(); err != nil {
			return x.failed(err)
		}
	}
	if !st.reused {
		x.s.served(x.t.Port)
	}
	if x.head.status == http.StatusSwitchingProtocols {
		hijacked = true
		return false, x.switchProtocols(stop)
	}
	reusable, err = x.answer()
	if err != nil && !x.started {
		_, err = x.failed(err)
	}
	return false, err
}

// failed says what err means before the answer has begun.
func (x *exchange) failed(err error) (again bool, _ error) {
	var told *sandpool.Error
	fault := x.callerFault()
	switch {
	case fault != nil:
		return false, fault
	case x.r.Context().Err() != nil:
		return false, context.Cause(x.r.Context())
	case errors.As(err, &told):
		return false, err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return false, silent(err)
	case x.st.reused && x.st.received == 0 && x.repeatable() && x.s.to.Context().Err() == nil:
		return true, nil
	}
	return false, x.s.why(x.t.Port, lost(err))
}

// callerFault returns the error of a body that did not come, nil if that is not what went wrong.
// The server cancels a request's context a moment before its body says why.
func (x *exchange) callerFault() error {
	if x.r.Context().Err() != nil && x.sent != nil {
		wait := time.NewTimer(endGrace)
		defer wait.Stop()
		select {
		case <-x.sent: //nolint:errcheck // x.fault says more
			x.sent = nil
		case <-wait.C:
		}
	}
	if fault := x.fault.Load(); fault != nil {
		return callerFault(fault.error)
	}
	return nil
}

// repeatable reports whether the request may be sent twice (RFC 9110, section 9.2.2) and can be:
// nothing of its body is gone.
func (x *exchange) repeatable() bool {
	switch x.r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace,
		http.MethodPut, http.MethodDelete:
		return x.kind == noBody
	}
	return false
}

// sendBody begins to send a body that takeSmallBody has left. With an expectation it first waits
// for the container's leave; a final answer instead leaves the body where it is.
func (x *exchange) sendBody() error {
	if x.kind == noBody {
		return nil
	}
	if expects(x.r) {
		if err := x.awaitLeave(); err != nil || x.head.status != 0 {
			return err
		}
	}
	if x.r.ProtoMajor == 1 {
		// Without it, the server reads the whole body before it sends the answer's first byte.
		_ = x.control.EnableFullDuplex() // tests' writers have none
	}
	d := &sender{st: x.st, r: x.r, kind: x.kind, read: x.readBody,
		buf: x.p.buffers.get(largeBuffer)}
	sent := make(chan error, 1)
	x.sent = sent
	go func() {
		err := d.send()
		x.p.buffers.put(d.buf)
		var caller errBody
		if errors.As(err, &caller) {
			x.fault.Store(&caller)
			x.st.abort() // the container sees a body that is cut short, and we its end of file
		}
		sent <- err
	}()
	return nil
}

// limitBody bounds the next read of the body. Who announced its length has it and is to send it;
// any other may be a conversation, whose parts come when they come.
func (x *exchange) limitBody() {
	wait := x.p.options.Quiet
	if x.kind == sizedBody {
		wait = x.p.options.Stall
	}
	x.reading.Lock()
	defer x.reading.Unlock()
	if !x.over {
		_ = x.control.SetReadDeadline(time.Now().Add(wait)) // tests' writers have none
	}
}

// readBody reads a part of the caller's body, until endBody.
func (x *exchange) readBody(p []byte) (int, error) {
	x.reading.Lock()
	over := x.over
	x.inRead = !over
	x.reading.Unlock()
	if over {
		return 0, http.ErrBodyReadAfterClose
	}
	x.limitBody()
	n, err := x.r.Body.Read(p)
	x.reading.Lock()
	x.inRead = false
	x.reading.Unlock()
	return n, err
}

// endBody says that no deadline of the caller's body may be set any more; now makes a read that
// waits fail as well.
func (x *exchange) endBody(now bool) {
	x.reading.Lock()
	defer x.reading.Unlock()
	x.over = true
	if now && x.inRead {
		_ = x.control.SetReadDeadline(time.Now()) // tests' writers have none
	}
}

// awaitLeave waits for a 100, for a final answer, which it leaves in x.head, or for continueWait.
func (x *exchange) awaitLeave() error {
	x.st.pin(continueWait)
	err := x.readHead()
	x.st.unpin()
	if errors.Is(err, os.ErrDeadlineExceeded) && x.st.received == 0 {
		err = nil
	}
	return err
}

// stopSending ends the sender, whatever it waits for, before the handler returns: the body is the
// server's.
func (x *exchange) stopSending() {
	defer func() { x.sent = nil }()
	// The sender of a body that the container has read is about to end by itself. A deadline must
	// not meet it: behind the body's end the server itself reads, to notice a caller that leaves,
	// and takes the deadline for that, which fails all further requests on the connection.
	wait := time.NewTimer(endGrace)
	defer wait.Stop()
	select {
	case <-x.sent: //nolint:errcheck // how the body's end went is told where it is sent
		return
	case <-wait.C:
	}
	x.st.abort()
	x.endBody(true)
	<-x.sent //nolint:errcheck // as above
}

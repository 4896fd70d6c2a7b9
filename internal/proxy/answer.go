package proxy

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// maxInformational bounds the 1xx answers before a final one.
const maxInformational = 64

// finalHead reads heads up to the final one, and hands on those before.
func (x *exchange) finalHead() error {
	for range maxInformational {
		if err := x.readHead(); err != nil || x.head.status != 0 {
			return err
		}
	}
	return badAnswer("it has more than %d informational heads", maxInformational)
}

// readHead reads one head into x.head. An informational one is handed on, and leaves the status 0.
func (x *exchange) readHead() error {
	for {
		err := x.st.readHead(&x.head)
		if err == nil {
			break
		}
		x.head.status = 0
		// An upload may take longer than any answer.
		if errors.Is(err, os.ErrDeadlineExceeded) && x.sending() {
			continue
		}
		return err
	}
	status := x.head.status
	switch {
	case status >= 200:
		return nil
	case status == http.StatusSwitchingProtocols:
		if x.upgrade == "" {
			x.head.status = 0
			return badAnswer("it changes the protocol, which the request did not ask for")
		}
		return nil
	case status != http.StatusContinue && x.r.ProtoAtLeast(1, 1):
		x.inform()
	}
	x.head.status = 0
	return nil
}

// sending reports whether the request's body is still on its way.
func (x *exchange) sending() bool { return x.sent != nil && len(x.sent) == 0 }

// inform hands an informational head on, whose fields are not those of the answer.
func (x *exchange) inform() {
	h := x.w.Header()
	before := h.Clone()
	x.head.copyTo(h, x.t)
	delete(h, "Content-Length")
	x.allow()
	x.w.WriteHeader(x.head.status)
	for name := range h {
		if v, had := before[name]; had {
			h[name] = v
		} else {
			delete(h, name)
		}
	}
}

// answer hands the final answer on. reusable says that the stream can carry another request.
func (x *exchange) answer() (reusable bool, err error) {
	h, st := &x.head, x.st
	x.head.copyTo(x.w.Header(), x.t)
	x.allow()
	x.w.WriteHeader(h.status)
	x.started = true
	st.flush = x.flush
	if !h.bodyless(x.r.Method) {
		if err := st.readBody(h, x.write, x.trailer); err != nil {
			if x.r.Context().Err() != nil {
				return false, ErrCallerGone
			}
			return false, x.s.cut(err)
		}
	}
	st.flush = nil
	ends := h.close || !h.chunked && h.length < 0 && !h.bodyless(x.r.Method)
	if ends && x.s.to.Context().Err() != nil {
		return false, x.s.cut(io.ErrUnexpectedEOF) // it ended because the sandbox did
	}
	if x.sent != nil {
		// An answer before the end of the request: what is left of the body goes nowhere.
		select {
		case err := <-x.sent:
			x.sent = nil
			ends = ends || err != nil
		default:
			ends = true
		}
	}
	return !ends, nil
}

// write hands a piece of the body on.
func (x *exchange) write(p []byte) error {
	x.allow()
	_, err := x.w.Write(p)
	return err
}

// flush sends what the server holds back, before the next piece is waited for.
func (x *exchange) flush() error {
	if x.hold != nil {
		begun(x.hold)
		x.hold = nil
	}
	x.allow()
	return x.control.Flush()
}

// allow bounds how long the caller may take for what is written next. As with the
// stream's deadline it is set anew when an eighth has passed.
func (x *exchange) allow() {
	stall := x.p.options.Stall
	if now := time.Now(); now.Sub(x.wrote) > stall/8 {
		x.wrote = now
		_ = x.control.SetWriteDeadline(now.Add(stall)) // tests' writers have none
	}
}

// trailer hands a trailer on: it must be named beforehand or carry the prefix that says so.
func (x *exchange) trailer(name, value string) {
	h := x.w.Header()
	if !listed(h["Trailer"], name) {
		name = http.TrailerPrefix + name
	}
	h[name] = append(h[name], value)
}

package arm

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// The server sets no deadline for writing, and a handler may hold a session and memory meanwhile.
const (
	// pieceSize is how much of an answer a caller must take within pieceTime.
	pieceSize = 64 << 10
	pieceTime = 30 * time.Second
	// leastPace is the average, in bytes per second, that a caller must keep to: a fifth of what
	// the slowest mobile networks of today give.
	leastPace = 32 << 10
)

// Answer is an answer in JSON. It is kept in pieces, so that what the caller has taken is
// given back to memory while the rest is on its way.
type Answer struct {
	pieces [][]byte
	size   int64
}

// Encode returns the body that v makes.
func Encode(v any) (*Answer, error) {
	b := &Answer{}
	if err := json.NewEncoder(b).Encode(v); err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	last := &b.pieces[len(b.pieces)-1]
	*last = (*last)[:len(*last)-1] // the encoder ends with a new line
	b.size--
	return b, nil
}

// Size is how many bytes are left to write.
func (b *Answer) Size() int64 { return b.size }

// Write implements io.Writer, for the encoder.
func (b *Answer) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), pieceSize)
		b.pieces = append(b.pieces, append([]byte(nil), rest[:n]...))
		rest = rest[n:]
	}
	b.size += int64(len(p))
	return len(p), nil
}

// Send writes the body as the answer, once, and calls taken, if it is not nil, after each piece
// that the caller has taken. Its error is for callers that can still do something about it: the
// connection, which a caller that stops reading, or crawls, loses.
func (b *Answer) Send(w http.ResponseWriter, status int, taken func()) error {
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.FormatInt(b.size, 10))
	w.WriteHeader(status)
	control := http.NewResponseController(w)
	started, sent := time.Now(), int64(0)
	for i, piece := range b.pieces {
		if err := control.SetWriteDeadline(pieceDeadline(started, time.Now(), sent)); err != nil &&
			!errors.Is(err, http.ErrNotSupported) {
			return NotTaken(err)
		}
		if _, err := w.Write(piece); err != nil {
			return NotTaken(err)
		}
		sent += int64(len(piece))
		b.size -= int64(len(piece))
		b.pieces[i] = nil
		if taken != nil {
			taken()
		}
	}
	return nil
}

// pieceDeadline is when the next piece must have been taken, after sent bytes: within pieceTime,
// and so that the average keeps above leastPace.
func pieceDeadline(started, now time.Time, sent int64) time.Time {
	next := now.Add(pieceTime)
	if pace := started.Add(pieceTime + time.Duration(sent/leastPace)*time.Second); pace.Before(
		next) {
		return pace
	}
	return next
}

// WriteJSON writes v as the answer; see Answer.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	b, err := Encode(v)
	if err != nil {
		return err
	}
	return b.Send(w, status, nil)
}

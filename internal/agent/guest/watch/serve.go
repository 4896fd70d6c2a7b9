package watch

import (
	"fmt"
	"net/http"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
)

// readTime is how long the host may take for one event. Its own caller may be slow.
const readTime = 2 * time.Minute

// Serve sends events as frames, until the host leaves or the directory is gone, and closes w.
func Serve(to http.ResponseWriter, r *http.Request, w *Watch) (err error) {
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-r.Context().Done():
		case <-done:
		}
		_ = w.Close()
	}()
	control := http.NewResponseController(to)
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	events := []agent.FileEvent{{Type: agent.FileReady}}
	for {
		if err := control.SetWriteDeadline(time.Now().Add(readTime)); err != nil {
			return fmt.Errorf("set the write deadline: %w", err)
		}
		for _, e := range events {
			frame, err := agent.EncodeFrame(e)
			if err == nil {
				_, err = to.Write(frame)
			}
			if err != nil {
				panic(http.ErrAbortHandler)
			}
		}
		if err := control.Flush(); err != nil {
			return err
		}
		if events, err = w.Next(); err != nil {
			panic(http.ErrAbortHandler) // so that the host does not take it for the whole
		}
	}
}

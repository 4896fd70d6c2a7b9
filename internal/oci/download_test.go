package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/erofs/erofstest"
	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/need"
)

// large is an image whose one layer takes a while to send.
func large(t *testing.T) (p pictured, layer []byte) {
	t.Helper()
	p = pictured{layers: [][]byte{tarball(t, "f", noise(4<<20))}, plain: true}
	return p, p.layers[0]
}

// onBlob calls do for requests of the layer.
func (h *testHub) onBlob(layer []byte, do func(w http.ResponseWriter, r *http.Request,
	from int) bool) {
	h.ask(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/blobs/"+string(digestOf(layer))) {
			return false
		}
		from := 0
		if text := r.Header.Get("Range"); text != "" {
			if _, err := fmt.Sscanf(text, "bytes=%d-", &from); err != nil {
				h.t.Error(err)
			}
		}
		return do(w, r, from)
	})
}

// sendPart answers with a part of the layer.
func sendPart(w http.ResponseWriter, layer []byte, from, to int) {
	w.Header().Set("Content-Length", fmt.Sprint(len(layer)-from))
	if from > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(layer)-1,
			len(layer)))
		w.WriteHeader(http.StatusPartialContent)
	}
	_, _ = w.Write(layer[from:to])
	w.(http.Flusher).Flush()
}

// A download that breaks or stalls goes on where it was; nothing is asked for twice.
func TestDownloadResumes(t *testing.T) {
	for name, pause := range map[string]func(r *http.Request){
		"break": func(*http.Request) {},
		"stall": func(r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			p, layer := large(t)
			h.push("1", p)
			sent := 0
			h.onBlob(layer, func(w http.ResponseWriter, r *http.Request, from int) bool {
				if from < sent {
					t.Errorf("asked for bytes from %d again, of %d that were sent", from, sent)
				}
				to := min(from+1<<20, len(layer))
				sendPart(w, layer, from, to)
				sent = max(sent, from)
				if to < len(layer) {
					pause(r)
					panic(http.ErrAbortHandler)
				}
				return true
			})
			limits := DefaultLimits()
			limits.Stall = 500 * time.Millisecond
			c, store := newClient(t, Config{Limits: limits})
			i, err := pull(t, c, h.host()+"/app:1", Credentials{})
			if err != nil {
				t.Fatal(err)
			}
			if got := erofstest.Read(t, i.Path)["f"].Content; got != erofstest.Content(
				noise(4<<20)) {
				t.Errorf("the content is %s", got)
			}
			if n := len(h.requests(string(digestOf(layer)))); n < 4 {
				t.Errorf("%d requests", n)
			}
			clean(t, store, 1)
		})
	}
}

// A registry that knows no ranges is asked from the beginning.
func TestDownloadWithoutRanges(t *testing.T) {
	h := newHub(t)
	p, layer := large(t)
	h.push("1", p)
	tries := 0
	h.onBlob(layer, func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		if tries++; tries < 3 {
			sendPart(w, layer, 0, 1<<20)
			panic(http.ErrAbortHandler)
		}
		sendPart(w, layer, 0, len(layer))
		return true
	})
	c, _ := newClient(t, Config{})
	var last Progress
	pinned, err := c.Resolve(t.Context(), h.host()+"/app:1", Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Pull(t.Context(), Request{Pinned: pinned, Progress: func(p Progress) {
		if p.Step == Download || p.Step == Unpacking {
			last = p
		}
	}}); err != nil {
		t.Fatal(err)
	}
	if last.Bytes != last.Total || last.Total != int64(len(layer)) {
		t.Errorf("the last report is %+v, of %d bytes", last, len(layer))
	}
}

// Layers that are not what was promised end the pull, and leave nothing.
func TestDownloadLies(t *testing.T) {
	p, layer := large(t)
	other := bytes.Clone(layer)
	other[3<<20]++
	for name, c := range map[string]struct {
		answer     func(w http.ResponseWriter, r *http.Request, from int) bool
		code, part string
	}{
		"other content": {func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			sendPart(w, other, 0, len(other))
			return true
		}, CodeDamaged, "not what its digest says"},
		"endless": {func(w http.ResponseWriter, _ *http.Request,
			_ int) bool {
			flood(w)
			return true
		}, CodeDamaged, "more than the"},
		"longer by one": {func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			_, _ = w.Write(append(bytes.Clone(layer), 0))
			return true
		}, CodeDamaged, "more than the"},
		"other content after a break": {func(w http.ResponseWriter, _ *http.Request,
			from int) bool {
			if from == 0 {
				sendPart(w, layer, 0, 1<<20)
				panic(http.ErrAbortHandler)
			}
			sendPart(w, other, from, len(layer))
			return true
		}, CodeDamaged, "not what its digest says"},
		"another range": {func(w http.ResponseWriter, _ *http.Request, from int) bool {
			if from == 0 {
				sendPart(w, layer, 0, 1<<20)
				panic(http.ErrAbortHandler)
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 1-%d/%d", len(layer)-1, len(layer)))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(layer[1:])
			return true
		}, CodeUnreachable, "not asked for"},
		"nothing": {func(w http.ResponseWriter, _ *http.Request,
			_ int) bool {
			w.WriteHeader(http.StatusOK)
			return true
		}, CodeUnreachable, "broke after 0 of"},
		"gone": {func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			problem(w, http.StatusNotFound, "BLOB_UNKNOWN", "gone")
			return true
		}, CodeMissing, "gone"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			h.push("1", p)
			h.onBlob(layer, c.answer)
			client, store := newClient(t, Config{})
			_, err := pull(t, client, h.host()+"/app:1", Credentials{})
			wantCode(t, err, c.code, c.part)
			clean(t, store, 0)
		})
	}
}

// A registry that sends a little now and then keeps a pull no longer than it may take.
func TestDownloadTrickles(t *testing.T) {
	h := newHub(t)
	p, layer := large(t)
	h.push("1", p)
	h.onBlob(layer, func(w http.ResponseWriter, r *http.Request, from int) bool {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		sendPart(w, layer, from, from+1)
		for at := from + 1; ; at++ {
			select {
			case <-r.Context().Done():
				return true
			case <-tick.C:
				_, _ = w.Write(layer[at : at+1])
				w.(http.Flusher).Flush()
			}
		}
	})
	limits := DefaultLimits()
	limits.Time = 500 * time.Millisecond
	c, store := newClient(t, Config{Limits: limits})
	_, err := pull(t, c, h.host()+"/app:1", Credentials{})
	wantCode(t, err, CodeSlow, "took too long")
	clean(t, store, 0)
}

// Who gives up leaves nothing, and does not spoil it for others who want the same image.
func TestPullTogether(t *testing.T) {
	h := newHub(t)
	p, layer := large(t)
	h.push("1", p)
	begun, more := make(chan bool, 10), make(chan bool)
	var asked atomic.Int32
	h.onBlob(layer, func(w http.ResponseWriter, r *http.Request, from int) bool {
		asked.Add(1)
		sendPart(w, layer, from, from+1<<20)
		begun <- true
		select {
		case <-more:
			_, _ = w.Write(layer[from+1<<20:])
		case <-r.Context().Done():
		}
		return true
	})
	c, store := newClient(t, Config{})
	pinned, err := c.Resolve(t.Context(), h.host()+"/app:1", Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ends := make(chan error, 10)
	go func() {
		_, err := c.Pull(ctx, Request{Pinned: pinned, User: "gives up"})
		ends <- err
	}()
	<-begun
	watched := make(chan Progress, 1000)
	for n := range 3 {
		go func() {
			_, err := c.Pull(t.Context(), Request{Pinned: pinned, User: fmt.Sprint("stays ", n),
				Progress: func(p Progress) { watched <- p }})
			ends <- err
		}()
		<-watched // it waits for the first pull, and is told how that goes
	}
	cancel()
	if err := <-ends; !errors.Is(err, context.Canceled) {
		t.Errorf("who gave up got %v", err)
	}
	<-begun
	close(more)
	for range 3 {
		if err := <-ends; err != nil {
			t.Error(err)
		}
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("the layer was asked for %d times, want once by who gave up and once for the rest",
			n)
	}
	i, err := store.Resolve(strings.TrimPrefix(pinned, h.host()+"/app@"))
	if err != nil {
		t.Fatal(err)
	}
	if users, err := store.UsersOf(i); err != nil || len(users) != 3 {
		t.Errorf("used by %v, %v", users, err)
	}
	clean(t, store, 1)
}

// pullIn is set in the process that TestPullKilled kills: the folder of its store and what it
// pulls.
const pullIn = "SANDPOOL_TEST_PULL_IN"

// A pull that is killed leaves nothing that the next start does not remove.
func TestPullKilled(t *testing.T) {
	h := newHub(t)
	p, layer := large(t)
	h.push("1", p)
	begun := make(chan bool, 1)
	h.onBlob(layer, func(w http.ResponseWriter, r *http.Request, from int) bool {
		sendPart(w, layer, from, from+1<<20)
		begun <- true
		<-r.Context().Done()
		return true
	})
	dir := filepath.Join(t.TempDir(), "images")
	cmd := command(t, dir, h.host()+"/app:1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-begun
	if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) != 1 {
		t.Errorf("at work: %v, %v; want one folder", left, err)
	}
	// What is alive is not swept away.
	if _, err := image.Open(dir); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) != 1 {
		t.Errorf("the work of a live pull is gone: %v, %v", left, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	store, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	clean(t, store, 0)
}

// A disk without room is told as that, before and in the middle of a pull.
func TestDiskFull(t *testing.T) {
	need.Root(t) // to mount a small disk
	h := newHub(t)
	p, _ := large(t)
	h.push("1", p)
	// A layer of zeros is small on its way and large on disk.
	h.push("2", pictured{layers: [][]byte{tarball(t, "f", strings.Repeat("\x00", 300<<20))}})
	for tag, size := range map[string]string{"1": "size=200m", "2": "size=280m"} {
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, size); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		store, err := image.Open(filepath.Join(dir, "images"))
		if err != nil {
			t.Fatal(err)
		}
		limits := DefaultLimits()
		limits.Layer.Ratio = 10_000
		c, err := New(store, Config{Limits: limits})
		if err != nil {
			t.Fatal(err)
		}
		_, err = pull(t, c, h.host()+"/app:"+tag, Credentials{})
		wantCode(t, err, CodeDiskFull, "image prune")
		clean(t, store, 0)
	}
}

package jupyter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/sandpool/sandpool/internal/agent/jupyter/zmtp"
)

// The channels of a kernel that the bridge uses.
const (
	shell   = "shell"
	iopub   = "iopub"
	control = "control"
	stdin   = "stdin"
)

const (
	// The ports are below those that systems give to connections of their own, so that no
	// connection takes one before the kernel has it: from 32768 on in Linux, from 16000 in gVisor.
	firstPort, lastPort = 10000, 15999

	dialEvery = 20 * time.Millisecond
	// maxQueued is how many bytes of messages wait for the bridge. Kernels drop what is not read
	// in time, so that messages are read as they come, up to here.
	maxQueued = 96 << 20
)

// connection is the file that tells a kernel where to listen.
type connection struct {
	Transport string `json:"transport"`
	IP        string `json:"ip"`
	Shell     int    `json:"shell_port"`
	IOPub     int    `json:"iopub_port"`
	Stdin     int    `json:"stdin_port"`
	Control   int    `json:"control_port"`
	Heartbeat int    `json:"hb_port"`
	Scheme    string `json:"signature_scheme"`
	Key       string `json:"key"`
	Kernel    string `json:"kernel_name"`
}

// newConnection chooses ports that nobody listens on.
func newConnection(kernel string, key []byte) (connection, error) {
	c := connection{Transport: "tcp", IP: "127.0.0.1", Scheme: "hmac-sha256", Key: string(key),
		Kernel: kernel}
	ports := []*int{&c.Shell, &c.IOPub, &c.Stdin, &c.Control, &c.Heartbeat}
	for tries := 0; len(ports) > 0; tries++ {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		l, err := net.Listen("tcp", net.JoinHostPort(c.IP, strconv.Itoa(port)))
		if err != nil {
			if tries == 1000 {
				return c, fmt.Errorf("a port for the kernel: %w", err)
			}
			continue
		}
		defer l.Close() // all at the end: no port is chosen twice
		*ports[0], ports = port, ports[1:]
	}
	return c, nil
}

// write makes the connection file in a directory that the user alone can enter.
func (c connection) write() (file string, err error) {
	text, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "jupyter-")
	if err != nil {
		return "", err
	}
	file = filepath.Join(dir, "kernel-"+c.Kernel+".json")
	return file, os.WriteFile(file, text, 0o600)
}

// ports says where each channel is.
func (c connection) ports() map[string]int {
	return map[string]int{shell: c.Shell, iopub: c.IOPub, control: c.Control, stdin: c.Stdin}
}

// arrival is a message from a kernel, or why there are no more.
type arrival struct {
	channel string
	message
	size int
	err  error
}

// link is the connections to a kernel.
type link struct {
	signer signer
	conns  map[string]*zmtp.Conn

	mu    sync.Mutex // guards the rest
	queue []arrival
	bytes int
	room  *sync.Cond    // there is more room in queue
	ready chan struct{} // holds a value when there is something in queue
}

// dial connects to a kernel that is about to listen, until ctx ends.
func dial(ctx context.Context, c connection, s signer) (*link, error) {
	l := &link{signer: s, conns: map[string]*zmtp.Conn{}, ready: make(chan struct{}, 1)}
	l.room = sync.NewCond(&l.mu)
	for channel, port := range c.ports() {
		kind, identity := zmtp.Dealer, s.session // one identity: a question on stdin goes to it
		if channel == iopub {
			kind, identity = zmtp.Sub, ""
		}
		conn, err := persist(ctx, net.JoinHostPort(c.IP, strconv.Itoa(port)), kind, identity)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("channel %s: %w", channel, err), l.close())
		}
		l.conns[channel] = conn
	}
	for channel, conn := range l.conns {
		go l.receive(channel, conn)
	}
	return l, nil
}

// persist dials until somebody listens.
func persist(ctx context.Context, addr, kind, identity string) (*zmtp.Conn, error) {
	tick := time.NewTicker(dialEvery)
	defer tick.Stop()
	for {
		conn, err := zmtp.Dial(ctx, addr, kind, identity)
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// receive queues what comes on a channel. What is not a message of the kernel, by its signature or
// its form, is left alone: anybody in the sandbox may connect to a port.
func (l *link) receive(channel string, conn *zmtp.Conn) {
	for {
		parts, err := conn.Receive()
		if err != nil {
			l.add(arrival{channel: channel, err: fmt.Errorf("channel %s: %w", channel, err)})
			return
		}
		m, err := l.signer.decode(parts)
		if err != nil {
			continue
		}
		l.add(arrival{channel: channel, message: m, size: weigh(parts)})
	}
}

// weigh is what a message takes of memory, about: what a kernel may make large is not its content
// alone, and one that is empty takes something, too.
func weigh(parts [][]byte) int {
	const each = 1 << 10
	size := each
	for _, p := range parts {
		size += len(p)
	}
	return size
}

func (l *link) add(a arrival) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.bytes > 0 && l.bytes+a.size > maxQueued {
		l.room.Wait()
	}
	l.bytes += a.size
	l.queue = append(l.queue, a)
	select {
	case l.ready <- struct{}{}:
	default:
	}
}

// take returns what has come since the last call.
func (l *link) take() []arrival {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.queue
	l.queue, l.bytes = nil, 0
	l.room.Broadcast()
	return all
}

// send sends a message and returns its id.
func (l *link) send(channel, kind string, parent *header, content any) (string, error) {
	parts, id, err := l.signer.encode(kind, parent, content)
	if err != nil {
		return "", err
	}
	return id, l.conns[channel].Send(parts...)
}

func (l *link) close() error {
	var errs []error
	for _, conn := range l.conns {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}

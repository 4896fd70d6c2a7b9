package languages

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

// The versions that are measured against.
const jupyterVersions = "jupyter_server==2.21.1 ipykernel==7.4.0"

// jupyter is a Jupyter server with a kernel of ipykernel.
type jupyter struct {
	cmd        *exec.Cmd
	url, token string
	kernel     *kernel
}

// kernel is a running kernel and the connection to it.
type kernel struct {
	id   string
	conn *websocket.Conn
}

// newJupyter installs a server into a virtual environment of dir, and starts it.
func newJupyter(ctx context.Context, dir string) (_ *jupyter, err error) {
	venv := filepath.Join(dir, "jupyter")
	for _, args := range [][]string{{"python3", "-m", "venv", venv},
		append([]string{venv + "/bin/pip", "install", "--quiet", "--disable-pip-version-check"},
			strings.Fields(jupyterVersions)...)} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", args[0], err, out)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(address)
	root := filepath.Join(dir, "notebooks")
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	j := &jupyter{url: "http://" + address, token: rand.Text()}
	// Without limits of its own to what a kernel prints.
	j.cmd = exec.Command(venv+"/bin/jupyter-server", "--no-browser", "--allow-root", "--port", port,
		"--ip", "127.0.0.1", "--IdentityProvider.token", j.token, "--ServerApp.root_dir", root,
		"--ZMQChannelsWebsocketConnection.iopub_data_rate_limit", "1e12",
		"--ZMQChannelsWebsocketConnection.iopub_msg_rate_limit", "1e9")
	j.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	j.cmd.Env = append(os.Environ(), "JUPYTER_CONFIG_DIR="+root, "JUPYTER_RUNTIME_DIR="+root,
		"JUPYTER_DATA_DIR="+root, "IPYTHONDIR="+root)
	if err := j.cmd.Start(); err != nil {
		return nil, err
	}
	if err = j.awaken(ctx); err == nil {
		j.kernel, err = j.begin(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, j.close(ctx))
	}
	return j, j.run(ctx, "1", func(string) {})
}

// awaken waits until the server answers.
func (j *jupyter) awaken(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := j.call(ctx, http.MethodGet, "/api/status", nil, nil)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the Jupyter server does not answer: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// call asks the server; out may be a value for JSON or an io.Writer.
func (j *jupyter) call(ctx context.Context, method, path string, in, out any) (err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, j.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "token "+j.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode >= http.StatusBadRequest {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	if w, ok := out.(io.Writer); ok {
		_, err = io.Copy(w, resp.Body)
		return err
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// begin starts a kernel and connects to it.
func (j *jupyter) begin(ctx context.Context) (*kernel, error) {
	var made struct{ ID string }
	if err := j.call(ctx, http.MethodPost, "/api/kernels", map[string]string{"name": "python3"},
		&made); err != nil {
		return nil, err
	}
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(j.url, "http")+"/api/kernels/"+
		made.ID+"/channels", &websocket.DialOptions{HTTPHeader: http.Header{
		"Authorization": {"token " + j.token}}})
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(-1)
	return &kernel{id: made.ID, conn: conn}, nil
}

// message is what of Jupyter's messages matters here.
type message struct {
	Header       header         `json:"header"`
	ParentHeader header         `json:"parent_header"`
	Metadata     map[string]any `json:"metadata"`
	Content      map[string]any `json:"content"`
	Channel      string         `json:"channel"`
}

type header struct {
	ID      string `json:"msg_id"`
	Session string `json:"session"`
	User    string `json:"username"`
	Type    string `json:"msg_type"`
	Version string `json:"version"`
}

func (k *kernel) run(ctx context.Context, code string, first func(string)) error {
	id := rand.Text()
	if err := wsjson.Write(ctx, k.conn, message{Header: header{id, "bench", "bench",
		"execute_request", "5.3"}, Metadata: map[string]any{}, Channel: "shell",
		Content: map[string]any{"code": code, "silent": false, "store_history": false,
			"user_expressions": map[string]any{}, "allow_stdin": false}}); err != nil {
		return err
	}
	replied, idle, begun := false, false, false
	for !replied || !idle {
		var m message
		if err := wsjson.Read(ctx, k.conn, &m); err != nil {
			return err
		}
		if m.ParentHeader.ID != id {
			continue
		}
		switch m.Header.Type {
		case "stream":
			if text, ok := m.Content["text"].(string); ok && !begun {
				begun = true
				first(text)
			}
		case "status":
			idle = m.Content["execution_state"] == "idle"
		case "execute_reply":
			if replied = true; m.Content["status"] != "ok" {
				return fmt.Errorf("the kernel says %v", m.Content)
			}
		}
	}
	return nil
}

func (j *jupyter) label() string { return "Jupyter server" }

func (j *jupyter) fresh(ctx context.Context, code string) (time.Duration, error) {
	begin := time.Now()
	k, err := j.begin(ctx)
	if err != nil {
		return 0, err
	}
	text := ""
	err = k.run(ctx, code, func(out string) { text = out })
	took := time.Since(begin)
	if text != "2\n" {
		err = errors.Join(err, fmt.Errorf("the answer is %q", text))
	}
	_ = k.conn.CloseNow()
	return took, errors.Join(err, j.call(ctx, http.MethodDelete, "/api/kernels/"+k.id, nil, nil))
}

func (j *jupyter) run(ctx context.Context, code string, first func(string)) error {
	return j.kernel.run(ctx, code, first)
}

func (j *jupyter) put(ctx context.Context, body []byte) error {
	return j.call(ctx, http.MethodPut, "/api/contents/bench", map[string]string{"type": "file",
		"format": "base64", "content": base64.StdEncoding.EncodeToString(body)}, nil)
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

func (j *jupyter) get(ctx context.Context) (int64, error) {
	var n counter
	err := j.call(ctx, http.MethodGet, "/files/bench", nil, &n)
	return int64(n), err
}

// close ends the server, which ends its kernels.
func (j *jupyter) close(ctx context.Context) error {
	if j.kernel != nil {
		_ = j.kernel.conn.CloseNow()
	}
	err := j.cmd.Process.Signal(syscall.SIGTERM)
	ended := make(chan struct{})
	go func() {
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			_ = syscall.Kill(-j.cmd.Process.Pid, syscall.SIGKILL)
		}
	}()
	_ = j.cmd.Wait() // it ends by the signal
	close(ended)
	_ = ctx
	return err
}

package languages

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// process is a plain process without any isolation, which runs what it reads from a pipe.
type process struct {
	l    language
	file string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
}

func newProcess(ctx context.Context, dir string, l language) (*process, error) {
	program, err := interpreter(ctx, l)
	if err != nil {
		return nil, err
	}
	l.loop = append([]string{program}, l.loop[1:]...)
	p := &process{l: l, file: filepath.Join(dir, "bench-"+l.name)}
	return p, p.start(ctx)
}

// interpreter is the program of the loop itself, and no script that looks for it.
func interpreter(ctx context.Context, l language) (string, error) {
	if l.name != "python" {
		return l.loop[0], nil
	}
	out, err := exec.CommandContext(ctx, l.loop[0], "-c", "import sys; print(sys.executable)").Output()
	return strings.TrimSpace(string(out)), err
}

func (p *process) start(ctx context.Context) (err error) {
	p.cmd = exec.CommandContext(ctx, p.l.loop[0], p.l.loop[1:]...)
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	p.out = bufio.NewReaderSize(out, 64<<10)
	return p.cmd.Start()
}

func (p *process) label() string { return "plain process" }

func (p *process) fresh(ctx context.Context, code string) (time.Duration, error) {
	begin := time.Now()
	other := &process{l: p.l}
	if err := other.start(ctx); err != nil {
		return 0, err
	}
	text := ""
	err := other.run(ctx, code, func(out string) { text = out })
	took := time.Since(begin)
	if text != "2\n" {
		err = errors.Join(err, fmt.Errorf("the answer is %q", text))
	}
	return took, errors.Join(err, other.end())
}

func (p *process) run(_ context.Context, code string, first func(string)) error {
	line := []byte(code)
	if p.l.json {
		var err error
		if line, err = json.Marshal(code); err != nil {
			return err
		}
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return err
	}
	for begun := false; ; {
		text, err := p.out.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		if string(text) == "\x00\n" {
			return nil
		}
		if !begun {
			begun = true
			first(strings.Clone(string(text)))
		}
	}
}

func (p *process) put(_ context.Context, body []byte) error {
	return os.WriteFile(p.file, body, 0o600)
}

func (p *process) get(context.Context) (n int64, err error) {
	f, err := os.Open(p.file)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.Copy(struct{ io.Writer }{io.Discard}, f)
}

func (p *process) end() error { return errors.Join(p.in.Close(), p.cmd.Wait()) }

func (p *process) close(context.Context) error { return p.end() }

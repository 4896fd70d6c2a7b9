package jupyter

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/agent/kernels"
)

const (
	// idleGrace is how long a kernel that has replied may take to say that it is idle.
	idleGrace = 5 * time.Second
	// maxBundle bounds what is shown at once; the agent takes frames of 48 MiB.
	maxBundle = agent.MaxDisplayBytes
	maxForms  = 64 // representations of it

	maxName      = 1 << 10
	maxMessage   = 64 << 10
	maxTraceback = 256 << 10

	// endOfFile is what Jupyter's console answers a question with when Ctrl-D is typed.
	endOfFile = "\x04"
)

// frame is what the bridge tells the agent; package kernels describes it.
type frame struct {
	Op      string                `json:"op"`
	ID      string                `json:"id"`
	Data    map[string]string     `json:"data,omitempty"`
	Display string                `json:"display,omitempty"`
	Update  bool                  `json:"update,omitempty"`
	Wait    bool                  `json:"wait,omitempty"`
	Value   map[string]string     `json:"value,omitempty"`
	Error   *agent.ExecutionError `json:"error,omitempty"`
}

// cell is the cell that runs.
type cell struct {
	id          string // the agent's
	request     string // the id of its execute_request
	live        bool
	stream      string // that was printed to last
	lines       []string
	value       map[string]string
	fault       *agent.ExecutionError
	questions   bool   // may be asked
	refused     string // the prompt of one that may not, with its quotes
	replied     bool
	idle        bool
	interrupted bool
	patience    *time.Timer // for the kernel to be idle
}

// run sends a cell to the kernel.
func (b *bridge) run(r kernels.Request) error {
	c := &cell{id: r.ID, live: r.Live, questions: r.Input}
	if r.Input {
		text, err := io.ReadAll(io.NewSectionReader(b.input, 0, math.MaxInt64))
		if err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
		c.lines = strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	}
	var err error
	c.request, err = b.link.send(shell, "execute_request", nil, map[string]any{"code": r.Code,
		"silent": false, "store_history": true, "user_expressions": struct{}{},
		"allow_stdin": r.Input, "stop_on_error": true})
	b.cell = c
	return err
}

// timer is when a cell is over whose kernel does not say so.
func (b *bridge) timer() <-chan time.Time {
	if b.cell == nil || b.cell.patience == nil {
		return nil
	}
	return b.cell.patience.C
}

// hear takes what the kernel has said.
func (b *bridge) hear() error {
	for _, a := range b.link.take() {
		if a.err != nil {
			return a.err
		}
		var err error
		switch a.channel {
		case iopub:
			err = b.published(a.message)
		case shell:
			err = b.replied(a.message)
		case stdin:
			err = b.asked(a.message)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// decode reads content; what is not as it should be is left alone, field by field.
func decode[T any](m message) (v T) {
	_ = json.Unmarshal(m.content, &v)
	return v
}

// bundle is a MIME bundle as Jupyter sends it.
type bundle struct {
	Data      map[string]json.RawMessage `json:"data"`
	Transient struct {
		ID string `json:"display_id"`
	} `json:"transient"`
}

// published takes a message of iopub. What an earlier cell has left behind prints as part of the
// one that runs; what else it says is of nobody any more.
func (b *bridge) published(m message) error {
	if m.header.Type == "stream" {
		return b.print(m)
	}
	c := b.cell
	if c == nil {
		return nil
	}
	mine := m.parent.ID == c.request
	switch m.header.Type {
	case "display_data", "update_display_data":
		v := decode[bundle](m)
		return b.show(v, m.header.Type == "update_display_data")
	case "execute_result":
		if !mine {
			return nil
		}
		if c.value != nil { // a kernel may have several; the last is the value
			if err := b.show(bundle{}, false, c.value); err != nil {
				return err
			}
		}
		c.value = flatten(decode[bundle](m).Data)
	case "error":
		if mine {
			c.fault = fault(decode[failure](m))
		}
	case "clear_output":
		wait := decode[struct{ Wait bool }](m).Wait
		return b.tell(frame{Op: "clear", Wait: wait})
	case "status":
		if mine && decode[struct {
			State string `json:"execution_state"`
		}](m).State == "idle" {
			c.idle = true
			return b.over()
		}
	}
	return nil
}

// print writes text to the stream that it is for.
func (b *bridge) print(m message) error {
	v := decode[struct{ Name, Text string }](m)
	to := b.out
	if v.Name == "stderr" {
		to = b.err
	}
	if c := b.cell; c != nil && c.live && c.stream != v.Name {
		// What the other stream has comes first.
		if c.stream != "" {
			if err := b.tell(frame{Op: "sync"}); err != nil {
				return err
			}
		}
		c.stream = v.Name
	}
	_, err := io.WriteString(to, v.Text)
	return err
}

// show sends what a kernel displays.
func (b *bridge) show(v bundle, update bool, ready ...map[string]string) error {
	data := flatten(v.Data)
	for _, r := range ready {
		data = r
	}
	if len(data) == 0 {
		return nil
	}
	id := v.Transient.ID
	if len(id) > maxName {
		id = id[:maxName]
	}
	return b.tell(frame{Op: "display", Data: data, Display: id, Update: update && id != ""})
}

// replied takes the answer to a cell.
func (b *bridge) replied(m message) error {
	c := b.cell
	if c == nil || m.header.Type != "execute_reply" || m.parent.ID != c.request {
		return nil
	}
	v := decode[struct {
		Status string
		failure
		Payload []struct {
			Source string
			Data   map[string]json.RawMessage
		}
	}](m)
	for _, p := range v.Payload { // help is shown by a pager, which here is the output
		if text := flatten(p.Data)["text/plain"]; p.Source == "page" && text != "" {
			if _, err := io.WriteString(b.out, strings.TrimSuffix(text, "\n")+"\n"); err != nil {
				return err
			}
		}
	}
	switch {
	case v.Status == "error" && (c.fault == nil || v.failure.Name != ""):
		c.fault = fault(v.failure)
	case v.Status == "aborted" || v.Status == "abort":
		c.fault = &agent.ExecutionError{Name: "Aborted",
			Message: "The kernel gave the code up."}
	}
	c.replied = true
	c.patience = time.NewTimer(idleGrace)
	return b.over()
}

// over ends the cell if nothing of it is to come.
func (b *bridge) over() error {
	if c := b.cell; c.replied && c.idle {
		return b.done()
	}
	return nil
}

// done tells the agent that the cell is over.
func (b *bridge) done() error {
	c := b.cell
	b.cell = nil
	c.patience.Stop()
	if c.interrupted && c.fault != nil && c.fault.Name != "KeyboardInterrupt" {
		// Kernels have names of their own for it.
		c.fault.Message = strings.TrimSuffix(c.fault.Name+": "+c.fault.Message, ": ")
		c.fault.Name = "Interrupted"
	}
	if c.refused != "" && c.fault == nil {
		c.fault = &agent.ExecutionError{Name: "InputRefused", Message: "The code asked for input (" +
			c.refused + "), and the request brings none: send it as 'stdin'."}
	}
	f := frame{Op: "done", ID: c.id, Value: c.value, Error: c.fault}
	if c.fault != nil {
		f.Value = nil
	}
	return b.say(f)
}

// asked answers a question by the next line of standard input.
func (b *bridge) asked(m message) error {
	if m.header.Type != "input_request" {
		return nil
	}
	answer := endOfFile
	if c := b.cell; c != nil && len(c.lines) > 0 {
		answer, c.lines = c.lines[0], c.lines[1:]
	}
	v := decode[struct{ Prompt string }](m)
	if c := b.cell; c != nil && !c.questions { // which most kernels see to themselves
		c.refused = strconv.Quote(clip(v.Prompt, maxName))
	} else if _, err := io.WriteString(b.out, v.Prompt); err != nil {
		return err
	}
	_, err := b.link.send(stdin, "input_reply", &m.header, map[string]string{"value": answer})
	return err
}

// tell sends a frame of the cell that runs, and waits until it was taken where order asks for that.
func (b *bridge) tell(f frame) error {
	c := b.cell
	if c == nil {
		return nil
	}
	if f.Op != "sync" {
		c.stream = ""
	}
	f.ID = c.id
	if err := b.say(f); err != nil || !c.live && f.Op != "clear" {
		return err
	}
	select {
	case <-b.acks:
		return nil
	case err := <-b.gone:
		b.gone <- err
		return err
	}
}

func (b *bridge) say(f frame) error {
	text, err := agent.EncodeFrame(f)
	if err != nil {
		return err
	}
	_, err = b.toAgent.Write(text)
	return err
}

// failure is what kernels say of an error.
type failure struct {
	Name      string   `json:"ename"`
	Value     string   `json:"evalue"`
	Traceback []string `json:"traceback"`
}

func fault(f failure) *agent.ExecutionError {
	name := clip(plain(f.Name), maxName)
	if name == "" {
		name = "Error"
	}
	return &agent.ExecutionError{Name: name, Message: clip(plain(f.Value), maxMessage),
		Traceback: clip(plain(strings.Join(f.Traceback, "\n")), maxTraceback)}
}

// clip cuts a text, at its end.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

// plain removes ANSI escape sequences (ECMA-48, CSI), by which tracebacks have colours.
func plain(s string) string {
	if !strings.Contains(s, "\x1b[") {
		return s
	}
	var out strings.Builder
	for {
		before, after, found := strings.Cut(s, "\x1b[")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		end := strings.IndexFunc(after, func(c rune) bool { return c < 0x20 || c > 0x3f })
		if end >= 0 && after[end] >= 0x40 && after[end] <= 0x7e {
			end++ // the final character
		}
		s = after[max(end, 0):]
		if end < 0 {
			return out.String()
		}
	}
}

// represent makes a string of a representation.
func represent(raw json.RawMessage, isJSON bool) string {
	var text string
	isText := json.Unmarshal(raw, &text) == nil
	switch {
	case isText && (!isJSON || json.Valid([]byte(text))):
		return text
	case isJSON:
		return string(raw)
	}
	var lines []string // as notebooks keep text
	if json.Unmarshal(raw, &lines) == nil {
		return strings.Join(lines, "")
	}
	return string(raw)
}

// flatten makes strings of a MIME bundle: what is not a string there is JSON. Beyond maxBundle and
// maxForms the largest representations are left out.
func flatten(data map[string]json.RawMessage) map[string]string {
	if len(data) == 0 {
		return nil
	}
	order := slices.SortedFunc(maps.Keys(data), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a)+len(data[a]), len(b)+len(data[b])), cmp.Compare(a, b))
	})
	flat, size := map[string]string{}, 0
	for _, mime := range order[:min(len(order), maxForms)] {
		text := represent(data[mime], strings.HasSuffix(mime, "json"))
		if size += len(mime) + len(text); size > maxBundle {
			break
		}
		flat[mime] = text
	}
	if len(flat) == 0 {
		flat["text/plain"] = fmt.Sprintf("[more than %d bytes]", maxBundle)
	}
	return flat
}

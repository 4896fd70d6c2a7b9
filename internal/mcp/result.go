package mcp

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// toolResult is what a tool has to say: to a model in content, to a program in structured.
type toolResult struct {
	content    []map[string]any
	structured any // nil means none
	isError    bool
}

func (r toolResult) wire() map[string]any {
	if r.content == nil {
		r.content = []map[string]any{}
	}
	m := map[string]any{"content": r.content, "isError": r.isError}
	if r.structured != nil {
		m["structuredContent"] = r.structured
	}
	return m
}

// failed is the result of a call that did not come to anything.
func failed(why string) toolResult {
	return toolResult{content: []map[string]any{textContent(why)}, isError: true}
}

func textContent(s string) map[string]any { return map[string]any{"type": "text", "text": s} }

func imageContent(data, mime string) map[string]any {
	return map[string]any{"type": "image", "data": data, "mimeType": mime}
}

// outcome is the structured result of an execution.
type outcome struct {
	EnvironmentID string          `json:"environmentId"`
	Status        string          `json:"status"`
	Stdout        string          `json:"stdout"`
	Stderr        string          `json:"stderr"`
	Result        json.RawMessage `json:"result,omitempty"`
	ExitCode      *int            `json:"exitCode,omitempty"`
	ErrorName     string          `json:"errorName,omitempty"`
	ErrorMessage  string          `json:"errorMessage,omitempty"`
	StateLost     bool            `json:"stateLost,omitempty"`
	Truncated     bool            `json:"outputTruncated,omitempty"`
	Milliseconds  int64           `json:"executionTimeInMilliseconds"`
}

func outcomeSchema(shell bool) schema {
	properties := schema{
		nameEnvironment: text("The environment that it ran in."),
		"status": schema{
			"type": "string",
			"enum": []string{"Succeeded", "Failed"},
		},
		"stdout":       text("Standard output."),
		"stderr":       text("Standard error, with the traceback."),
		"errorName":    text("What went wrong, in a word."),
		"errorMessage": text("What went wrong."),
		"stateLost": schema{
			"type":        "boolean",
			"description": "Variables of earlier calls are gone.",
		},
		"outputTruncated":             schema{"type": "boolean"},
		"executionTimeInMilliseconds": schema{"type": "integer"},
	}
	if shell {
		properties["exitCode"] = schema{
			"type":        "integer",
			"description": "The exit status of the command.",
		}
	} else {
		properties["result"] = schema{
			"description": "The value of the last expression: as JSON if it prints as JSON, else its text.",
		}
	}
	return object([]string{nameEnvironment, "status", "stdout", "stderr"}, properties)
}

// outcomeOf turns what the agent reports into a result.
func outcomeOf(
	id sandpool.Identifier,
	res agent.ExecuteResult,
	timeout time.Duration,
	shell bool,
) toolResult {
	o := outcome{
		EnvironmentID: string(id),
		Status:        "Succeeded",
		Stdout:        res.Stdout,
		Stderr:        res.Stderr,
		StateLost:     res.KernelRestarted,
		Truncated:     res.StdoutTruncated || res.StderrTruncated || res.DisplaysTruncated,
		Milliseconds:  res.Duration.Milliseconds(),
	}
	if res.Notice != "" {
		o.Stderr = lines(res.Notice, o.Stderr)
	}
	value := ""
	if name, message, traceback := fault(res, timeout); name != "" {
		o.Status, o.ErrorName, o.ErrorMessage = "Failed", name, message
		o.Stderr = lines(o.Stderr, traceback)
		o.StateLost = o.StateLost || res.Outcome == agent.TimeoutRestarted ||
			res.Outcome == agent.KernelDied
	} else if code, err := strconv.Atoi(res.Text); shell && err == nil {
		o.ExitCode = &code
		value = fmt.Sprintf("exit code: %d", code)
	} else if res.HasValue {
		value, o.Result = res.Text, valueOf(res.Text)
	}
	r := toolResult{structured: o, isError: o.Status == "Failed"}
	for _, part := range []string{o.Stdout, o.Stderr, value} {
		if part != "" {
			r.content = append(r.content, textContent(part))
		}
	}
	r.content = append(r.content, figures(res)...)
	if len(r.content) == 0 {
		r.content = append(r.content, textContent("(no output)"))
	}
	return r
}

// lines joins two texts, each beginning a line.
func lines(a, b string) string {
	if a != "" && b != "" && !strings.HasSuffix(a, "\n") {
		a += "\n"
	}
	return a + b
}

// fault says why an execution failed; an empty name means that it did not.
func fault(res agent.ExecuteResult, timeout time.Duration) (name, message, traceback string) {
	after := fmt.Sprintf("The code was stopped after %d s.", int64(timeout/time.Second))
	switch res.Outcome {
	case agent.OK:
		return "", "", ""
	case agent.TimeoutInterrupted:
		return "Timeout", after + " Variables and files are kept.", after + " Variables and files " +
			"are kept."
	case agent.TimeoutRestarted:
		return "Timeout", after + " The interpreter was restarted: variables are lost, files are kept.", after + " The interpreter was restarted: variables are lost, files are kept."
	case agent.Interrupted:
		return "Interrupted", "The code was interrupted. Variables and files are kept.", "The code " +
			"was interrupted. Variables and files are kept."
	case agent.KernelDied:
		why := "The interpreter ended while the code ran. Variables are lost."
		if res.Error != nil && res.Error.Message != "" {
			why = res.Error.Message
		}
		return "KernelDied", why + " Files are kept.", why + " Files are kept."
	}
	if res.Error == nil {
		return "Error", "The code failed.", "The code failed."
	}
	return res.Error.Name, res.Error.Message, res.Error.Traceback
}

// valueOf is the printed form of a value in JSON: itself, if it is JSON.
func valueOf(text string) json.RawMessage {
	if trimmed := strings.TrimSpace(text); json.Valid([]byte(trimmed)) {
		return json.RawMessage(trimmed)
	}
	b, err := json.Marshal(text)
	if err != nil {
		return nil // a string always encodes
	}
	return b
}

// figures are the images that an execution has shown, each once.
func figures(res agent.ExecuteResult) (all []map[string]any) {
	seen := map[string]bool{}
	add := func(b agent.Bundle) {
		for _, mime := range []string{"image/png", "image/jpeg", "image/gif", "image/webp"} {
			data, ok := b[mime]
			if data = strings.Join(strings.Fields(data), ""); !ok || seen[data] {
				continue
			}
			seen[data] = true
			all = append(all, imageContent(data, mime))
			return
		}
	}
	add(res.Value)
	for _, d := range res.Displays {
		add(d.Data)
	}
	return all
}

package mcp

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/gateway/wire"
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
			"description": "The value of the last expression: as JSON if it prints as JSON, else " +
				"its text.",
		}
	}
	return object([]string{nameEnvironment, "status", "stdout", "stderr"}, properties)
}

// outcomeOf turns what the agent reports into a result. What it says in words is what the other
// data plane says.
func outcomeOf(id sandpool.Identifier, res agent.ExecuteResult, timeout time.Duration,
	shell bool,
) toolResult {
	answer, _ := wire.New(wire.AnswerOf(res, timeout), wire.About{}).(api.Execution)
	o := outcome{
		EnvironmentID: string(id), Status: answer.Status,
		Stdout: answer.Result.Stdout, Stderr: answer.Result.Stderr,
		StateLost: answer.Result.StateLost, Milliseconds: answer.Result.Milliseconds,
		Truncated: res.StdoutTruncated || res.StderrTruncated || res.DisplaysTruncated,
	}
	value := ""
	switch status, isStatus := exitStatus(res); {
	case shell && isStatus:
		o.Status, o.ExitCode = api.StatusSucceeded, &status // it ran, and says itself how it went
		value = fmt.Sprintf("exit code: %d", status)
	case o.Status != api.StatusSucceeded:
		o.ErrorName, o.ErrorMessage = answer.Result.ErrorName, answer.Result.ErrorMessage
	case res.HasValue:
		value, o.Result = res.Text, valueOf(res.Text)
	}
	r := toolResult{structured: o, isError: o.Status != api.StatusSucceeded}
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

// exitStatus is that of a command: the kernel's own, or the value of shellSource.
func exitStatus(res agent.ExecuteResult) (int, bool) {
	if res.ExitStatus != nil && (res.Outcome == agent.OK || res.Outcome == agent.Failed) {
		return *res.ExitStatus, true
	}
	status, err := strconv.Atoi(res.Text)
	return status, err == nil && res.Outcome == agent.OK && res.ExitStatus == nil
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
		// No model takes SVG as an image; a resource within the answer is for clients that draw it.
		if svg, ok := b["image/svg+xml"]; ok && !seen[svg] {
			seen[svg] = true
			all = append(all, map[string]any{"type": "resource", "resource": map[string]any{
				"uri": fmt.Sprintf("figure:///%d.svg", len(all)+1), "mimeType": "image/svg+xml",
				"text": svg}})
		}
	}
	add(res.Value)
	for _, d := range res.Displays {
		add(d.Data)
	}
	return all
}

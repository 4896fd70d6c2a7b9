package clients_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// primes is what the model has a tool run, and primesAnswer what only a sandbox prints then.
const (
	primes = `import os
n = sum(all(p % d for d in range(2, int(p**0.5) + 1)) for p in range(2, 10_000))
print(f"{n} primes, counted in {os.getcwd()}")`
	primesAnswer = "1229 primes, counted in /mnt/data"
)

// model is in the place of a model that costs money. It speaks both protocols of OpenAI's, asks for
// the tool that runs code, and repeats what the tool has answered.
type model struct {
	url   string
	calls atomic.Int32
}

// newModel starts a model, with the server's certificate.
func (s *server) newModel(t *testing.T) *model {
	t.Helper()
	dir := filepath.Dir(s.authority)
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	m := &model{}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter,
		r *http.Request) {
		m.calls.Add(1)
		if err := m.answer(w, r); err != nil {
			t.Errorf("the model: %s: %v", r.URL.Path, err)
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	m.url = srv.URL + "/v1"
	return m
}

// modelTool is a tool as a request describes it, in either protocol.
type modelTool struct {
	Name       string
	Parameters struct {
		Properties map[string]any
	}
	Function *modelTool
}

// says is what the model has to say: a call of a tool, or a text.
type says struct{ tool, arguments, text string }

func (m *model) answer(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	var q struct {
		Tools  []modelTool
		Stream bool
	}
	if err := json.Unmarshal(body, &q); err != nil {
		return fmt.Errorf("%w: %.500s", err, body)
	}
	for i, t := range q.Tools {
		if t.Function != nil {
			q.Tools[i] = *t.Function
		}
	}
	s, err := next(q.Tools, string(body))
	if err != nil {
		return err
	}
	switch {
	case strings.HasSuffix(r.URL.Path, "/chat/completions") && q.Stream:
		return s.chatStream(w)
	case strings.HasSuffix(r.URL.Path, "/chat/completions"):
		return send(w, s.chat())
	case strings.HasSuffix(r.URL.Path, "/responses") && !q.Stream:
		return send(w, s.response())
	}
	return fmt.Errorf("there is no such protocol: %.500s", body)
}

// next is what comes next in a conversation, whose only question is one for the tool.
func next(tools []modelTool, conversation string) (says, error) {
	if answer := regexp.MustCompile(primesAnswer).FindString(conversation); answer != "" {
		// There are frameworks whose agents end by a tool.
		if slices.ContainsFunc(tools, func(t modelTool) bool { return t.Name == "final_answer" }) {
			return call("final_answer", map[string]any{"answer": answer})
		}
		return says{text: "The answer: " + answer}, nil
	}
	code := regexp.MustCompile(`(?i)code$`)
	for _, t := range tools {
		for name := range t.Parameters.Properties {
			if code.MatchString(name) {
				return call(t.Name, map[string]any{name: primes})
			}
		}
	}
	return says{}, fmt.Errorf("there is no tool that runs code: %.2000s", conversation)
}

func call(tool string, arguments map[string]any) (says, error) {
	text, err := json.Marshal(arguments)
	return says{tool: tool, arguments: string(text)}, err
}

type object = map[string]any

func send(w http.ResponseWriter, answer object) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(answer)
}

// message is the message of a chat completion, and why it ends.
func (s says) message() (message object, reason string) {
	if s.tool == "" {
		return object{"role": "assistant", "content": s.text}, "stop"
	}
	return object{"role": "assistant", "content": nil, "tool_calls": []object{{"index": 0,
		"id": "call_1", "type": "function",
		"function": object{"name": s.tool, "arguments": s.arguments}}}}, "tool_calls"
}

func (s says) completion(kind string, choice object) object {
	return object{"id": "chatcmpl-1", "object": kind, "created": 1, "model": "gpt-4.1",
		"choices": []object{choice},
		"usage":   object{"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
}

// chat is the answer of the protocol of chat completions.
func (s says) chat() object {
	message, reason := s.message()
	return s.completion("chat.completion",
		object{"index": 0, "message": message, "finish_reason": reason})
}

// chatStream is the same as a stream.
func (s says) chatStream(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "text/event-stream")
	message, reason := s.message()
	for _, choice := range []object{
		{"index": 0, "delta": message},
		{"index": 0, "delta": object{}, "finish_reason": reason},
	} {
		text, err := json.Marshal(s.completion("chat.completion.chunk", choice))
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "data: %s\n\n", text)
	}
	_, err := io.WriteString(w, "data: [DONE]\n\n")
	return err
}

// response is the answer of the protocol of responses.
func (s says) response() object {
	item := object{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
		"content": []object{{"type": "output_text", "text": s.text, "annotations": []object{}}}}
	if s.tool != "" {
		item = object{"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": s.tool,
			"arguments": s.arguments, "status": "completed"}
	}
	return object{"id": "resp_1", "object": "response", "created_at": 1, "status": "completed",
		"model": "gpt-4.1", "output": []object{item}, "parallel_tool_calls": false,
		"tool_choice": "auto", "tools": []object{}, "error": nil, "incomplete_details": nil,
		"usage": object{"input_tokens": 1, "output_tokens": 1, "total_tokens": 2,
			"input_tokens_details":  object{"cached_tokens": 0},
			"output_tokens_details": object{"reasoning_tokens": 0}}}
}

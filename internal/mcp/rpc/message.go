// Package rpc is the messages of JSON-RPC 2.0 in which the Model Context Protocol is spoken: it
// reads those of clients, within bounds, and has the forms of answers.
package rpc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
)

// Bounds of what a client sends. Messages of the protocol nest some ten deep.
const (
	maxDepth = 64
	maxBatch = 32
	// MaxID bounds a request's id, in bytes.
	MaxID = 256
)

// The codes of errors: those of JSON-RPC 2.0, and those that MCP adds.
const (
	CodeParse    = -32700
	CodeRequest  = -32600
	CodeMethod   = -32601
	CodeParams   = -32602
	CodeInternal = -32603
	CodeSession  = -32001 // an MCP session that is not known; SDKs use this one
	CodeResource = -32002 // a resource that is not there, until 2025-11-25
	CodeHeader   = -32020 // a header that is not what the message says
	CodeVersion  = -32022 // a version that is not served
)

// MaxMessage bounds an error's message, in bytes.
const MaxMessage = 2000

// Version is that of JSON-RPC, which every message names.
const Version = "2.0"

// Message is one of JSON-RPC: a request with an ID, a notification without one, or an answer to
// a request of ours, of which there are none.
type Message struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
	Result  json.RawMessage `json:"result"`
	Error   json.RawMessage `json:"error"`
}

// IsCall reports whether m wants an answer.
func (m Message) IsCall() bool { return m.Method != "" && m.ID != nil }

// Response is the answer to a request.
type Response struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  any             `json:"result,omitempty"`
	Error   *Error          `json:"error,omitempty"`
}

// Notification is a message of ours.
type Notification struct {
	JSONRPC string `json:"jsonrpc"`
	Method  string `json:"method"`
	Params  any    `json:"params,omitempty"`
}

// Error is an error of JSON-RPC.
type Error struct {
	// Status is that of the HTTP answer; zero means 200.
	Status  int    `json:"-"`
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    any    `json:"data,omitempty"`
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Errorf returns an error, whose message is cut at MaxMessage.
func Errorf(code int, format string, args ...any) *Error {
	m := fmt.Sprintf(format, args...)
	if len(m) > MaxMessage {
		m = m[:MaxMessage]
	}
	return &Error{Code: code, Message: m}
}

// BadRequest is Errorf with the status 400.
func BadRequest(code int, format string, args ...any) *Error {
	e := Errorf(code, format, args...)
	e.Status = http.StatusBadRequest
	return e
}

// Decode reads one message, or a batch of them.
func Decode(data []byte) (all []Message, batch bool, bad *Error) {
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return nil, false, BadRequest(CodeParse,
			"The request has no body. Send a message of JSON-RPC 2.0.")
	}
	if err := checkDepth(data); err != nil {
		return nil, false, err
	}
	if batch = data[0] == '['; batch {
		var raw []json.RawMessage
		if err := json.Unmarshal(data, &raw); err != nil {
			return nil, true, notJSON(err)
		}
		if len(raw) == 0 || len(raw) > maxBatch {
			return nil, true, BadRequest(CodeRequest, "The batch has %d messages; send 1 to %d.",
				len(raw), maxBatch)
		}
		for _, one := range raw {
			m, err := decodeOne(one)
			if err != nil {
				return nil, true, err
			}
			all = append(all, m)
		}
		return all, true, nil
	}
	m, bad := decodeOne(data)
	return []Message{m}, false, bad
}

func notJSON(err error) *Error {
	return BadRequest(CodeParse, "The body is not a message of JSON-RPC 2.0: %v.", err)
}

func decodeOne(data []byte) (m Message, bad *Error) {
	if err := json.Unmarshal(data, &m); err != nil {
		return Message{}, notJSON(err)
	}
	switch {
	case m.JSONRPC != Version:
		return Message{}, BadRequest(CodeRequest, `The message's jsonrpc is %.20q; send "2.0".`,
			m.JSONRPC)
	case m.Method == "" && m.Result == nil && m.Error == nil:
		return Message{}, BadRequest(CodeRequest, "The message has no method.")
	case m.ID != nil && !IsID(m.ID):
		return Message{}, BadRequest(CodeRequest,
			"The message's id must be a number, or a string of up to %d bytes.", MaxID)
	case m.Params != nil && m.Params[0] == 'n': // null
		m.Params = nil
	case m.Params != nil && m.Params[0] != '{':
		return m, BadRequest(CodeParams, "The message's params must be an object.")
	}
	return m, nil
}

// IsID reports whether raw may name something: it is a number, or a string, and not too long.
func IsID(raw json.RawMessage) bool {
	return len(raw) > 0 && len(raw) <= MaxID &&
		(raw[0] == '"' || raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9')
}

// checkDepth finds JSON that nests deeper than maxDepth, before memory is spent on it. What is
// not JSON is left for the decoder to say.
func checkDepth(data []byte) *Error {
	depth, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch b := data[i]; {
		case inString && b == '\\':
			i++
		case b == '"':
			inString = !inString
		case inString:
		case b == '{' || b == '[':
			if depth++; depth > maxDepth {
				return BadRequest(CodeParse, "The JSON nests deeper than %d levels.", maxDepth)
			}
		case b == '}' || b == ']':
			depth--
		}
	}
	return nil
}

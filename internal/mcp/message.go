package mcp

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
	maxID    = 256 // bytes of a request's id
)

// The codes of errors: those of JSON-RPC 2.0, and those that MCP adds.
const (
	codeParse         = -32700
	codeRequest       = -32600
	codeMethod        = -32601
	codeParams        = -32602
	codeInternal      = -32603
	codeSession       = -32001 // an MCP session that is not known; SDKs use this one
	codeResource      = -32002 // a resource that is not there, until 2025-11-25
	codeHeader        = -32020 // a header that is not what the message says
	codeVersion       = -32022 // a version that is not served
	maxMessage        = 2000   // bytes of an error's message
	jsonrpcVersion    = "2.0"
	methodInitialize  = "initialize"
	methodInitialized = "notifications/initialized"
	methodCancelled   = "notifications/cancelled"
	methodDiscover    = "server/discover"
	methodCall        = "tools/call"
	methodRead        = "resources/read"
)

// message is one of JSON-RPC: a request with an ID, a notification without one, or an answer to
// a request of ours, of which there are none.
type message struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
	Result  json.RawMessage `json:"result"`
	Error   json.RawMessage `json:"error"`
}

// isCall reports whether m wants an answer.
func (m message) isCall() bool { return m.Method != "" && m.ID != nil }

// response is the answer to a request.
type response struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  any             `json:"result,omitempty"`
	Error   *rpcError       `json:"error,omitempty"`
}

// notification is a message of ours.
type notification struct {
	JSONRPC string `json:"jsonrpc"`
	Method  string `json:"method"`
	Params  any    `json:"params,omitempty"`
}

// rpcError is an error of JSON-RPC.
type rpcError struct {
	// status is that of the HTTP answer; zero means 200.
	status  int
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    any    `json:"data,omitempty"`
}

func (e *rpcError) Error() string { return e.Message }

func rpcErrorf(code int, format string, args ...any) *rpcError {
	m := fmt.Sprintf(format, args...)
	if len(m) > maxMessage {
		m = m[:maxMessage]
	}
	return &rpcError{Code: code, Message: m}
}

// badRequest is rpcErrorf with the status 400.
func badRequest(code int, format string, args ...any) *rpcError {
	e := rpcErrorf(code, format, args...)
	e.status = http.StatusBadRequest
	return e
}

// decode reads one message, or a batch of them.
func decode(data []byte) (all []message, batch bool, bad *rpcError) {
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return nil, false, badRequest(codeParse,
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
			return nil, true, badRequest(codeRequest, "The batch has %d messages; send 1 to %d.",
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
	return []message{m}, false, bad
}

func notJSON(err error) *rpcError {
	return badRequest(codeParse, "The body is not a message of JSON-RPC 2.0: %v.", err)
}

func decodeOne(data []byte) (m message, bad *rpcError) {
	if err := json.Unmarshal(data, &m); err != nil {
		return message{}, notJSON(err)
	}
	switch {
	case m.JSONRPC != jsonrpcVersion:
		return message{}, badRequest(codeRequest, `The message's jsonrpc is %.20q; send "2.0".`,
			m.JSONRPC)
	case m.Method == "" && m.Result == nil && m.Error == nil:
		return message{}, badRequest(codeRequest, "The message has no method.")
	case len(m.ID) > maxID,
		m.ID != nil && m.ID[0] != '"' && m.ID[0] != '-' && (m.ID[0] < '0' || m.ID[0] > '9'):
		return message{}, badRequest(codeRequest,
			"The message's id must be a number, or a string of up to %d bytes.", maxID)
	case m.Params != nil && m.Params[0] == 'n': // null
		m.Params = nil
	case m.Params != nil && m.Params[0] != '{':
		return m, badRequest(codeParams, "The message's params must be an object.")
	}
	return m, nil
}

// checkDepth finds JSON that nests deeper than maxDepth, before memory is spent on it. What is
// not JSON is left for the decoder to say.
func checkDepth(data []byte) *rpcError {
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
				return badRequest(codeParse, "The JSON nests deeper than %d levels.", maxDepth)
			}
		case b == '}' || b == ']':
			depth--
		}
	}
	return nil
}

package api

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Context is a kernel of its own in a session.
type Context struct {
	Name   string `json:"name"`
	Kernel string `json:"kernel"`
	// CreatedAt is absent of the default context, which is as old as the session.
	CreatedAt string `json:"createdAt,omitempty"`
	// Running says that code runs in it, and Waiting how many executions wait for that to end.
	Running bool  `json:"running"`
	Waiting int64 `json:"waiting"`
}

// Contexts lists the contexts of a session, the default one first.
type Contexts struct {
	Value []Context `json:"value"`
}

// ContextRequest is the body of a call that makes a context.
type ContextRequest struct {
	// Kernel is the name of one that the pool's image has; absent, it is that of the session's
	// default context.
	Kernel string `json:"kernel,omitempty"`
}

// MaxVariables is the most variables that an execution may bring.
const MaxVariables = 256

// Variables is variables by name. Reading one stops at MaxVariables: a few bytes of JSON are an
// entry of a map.
type Variables map[string]string

// UnmarshalJSON implements json.Unmarshaler.
func (e *Variables) UnmarshalJSON(text []byte) error {
	if bytes.Equal(text, []byte("null")) {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if first, err := dec.Token(); err != nil || first != json.Delim('{') {
		return fmt.Errorf("env is not an object of strings")
	}
	read := Variables{}
	for dec.More() {
		if len(read) == MaxVariables {
			return fmt.Errorf("env has more than %d variables", MaxVariables)
		}
		key, err := dec.Token()
		if err != nil {
			return err
		}
		var value *string
		if err := dec.Decode(&value); err != nil || value == nil {
			return fmt.Errorf("a variable of env is not a string")
		}
		read[key.(string)] = *value // the decoder takes no other keys
	}
	*e = read
	return nil
}

// The types of TerminalMessage.
const (
	TerminalResize = "resize" // to the server: Columns and Rows
	TerminalExit   = "exit"   // from the server, the last: Code and Signal
)

// TerminalMessage is a text message on the WebSocket of a terminal. Bytes, in both directions, are
// binary messages.
type TerminalMessage struct {
	Type    string `json:"type"`
	Columns int    `json:"columns,omitempty"`
	Rows    int    `json:"rows,omitempty"`
	// Code is the exit code of the shell; Signal is what ended it, if that is not 0.
	Code   *int `json:"code,omitempty"`
	Signal int  `json:"signal,omitempty"`
}

// Terminal describes a terminal of a session.
type Terminal struct {
	Name      string `json:"name"`
	PID       int    `json:"pid"` // of its shell, in the session
	CreatedAt string `json:"createdAt"`
	Columns   int    `json:"columns"`
	Rows      int    `json:"rows"`
	Viewers   int    `json:"viewers"`
}

// Terminals lists the terminals of a session.
type Terminals struct {
	Value []Terminal `json:"value"`
}

package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"time"
)

// runner serves the wire form of a public runner of commands: its health, files that are sent as
// they are, and executions whose events are lines of JSON. An execution here waits for the file
// that it names, with heartbeats.
func runner() {
	http.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"ok":true}`)
	})
	http.HandleFunc("POST /v1/files", func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err == nil && int64(len(text)) != r.ContentLength {
			err = io.ErrUnexpectedEOF
		}
		path := r.URL.Query().Get("path")
		if err == nil {
			err = os.WriteFile(path+".part", text, 0o600)
		}
		if err == nil {
			err = os.Rename(path+".part", path)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	http.HandleFunc("POST /v1/exec", func(w http.ResponseWriter, r *http.Request) {
		var request struct{ Command string }
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		say := func(event string, more ...any) {
			line := map[string]any{"type": event}
			for i := 0; i < len(more); i += 2 {
				line[more[i].(string)] = more[i+1]
			}
			_ = json.NewEncoder(w).Encode(line)
			_ = http.NewResponseController(w).Flush()
		}
		say("start")
		say("stdout", "data", "waiting\n")
		for {
			text, err := os.ReadFile(request.Command)
			if err == nil {
				say("stderr", "data", string(text))
				say("complete", "exitCode", 3)
				return
			}
			say("heartbeat")
			<-time.After(20 * time.Millisecond)
		}
	})
	http.HandleFunc("POST /start", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "it runs already", http.StatusConflict)
	})
}

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
)

// identity asks the container's identity endpoint for a token, and answers what it is told and the
// header that it has shown.
func identity(w http.ResponseWriter, r *http.Request) {
	at, header := os.Getenv("IDENTITY_ENDPOINT"), os.Getenv("IDENTITY_HEADER")
	if at == "" {
		fmt.Fprint(w, "none")
		return
	}
	ask, err := http.NewRequest(http.MethodGet, at+"?api-version=2019-08-01&resource="+
		url.QueryEscape(r.FormValue("resource")), nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	ask.Header.Set("X-IDENTITY-HEADER", header)
	resp, err := http.DefaultClient.Do(ask)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	var got json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"header": header, "answer": got})
}

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// measure answers with how long n requests took, each, in seconds. The kind says what they are:
// "get"
// on one connection, "name" resolves and connects anew, "down" and "up" carry so many bytes.
func measure(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.FormValue("n"))
	size, _ := strconv.ParseInt(r.FormValue("bytes"), 10, 64)
	url := r.FormValue("url")
	c := &http.Client{
		Timeout:   10 * time.Minute,
		Transport: &http.Transport{DisableKeepAlives: r.FormValue("kind") == "name"},
	}
	var took []float64
	for i := range n {
		began := time.Now()
		var err error
		switch r.FormValue("kind") {
		case "up":
			err = do(c, http.MethodPut, url, io.LimitReader(zeros{}, size))
		case "name":
			err = do(
				c,
				http.MethodGet,
				strings.ReplaceAll(url, "*", fmt.Sprint("n", i, "-", began.UnixNano())),
				nil,
			)
		case "lookup":
			_, err = net.LookupHost(fmt.Sprint("n", i, "-", began.UnixNano(), ".example.com"))
		default:
			err = do(c, http.MethodGet, url, nil)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		took = append(took, time.Since(began).Seconds())
	}
	_ = json.NewEncoder(w).Encode(took)
}

// give answers with so many bytes.
func give(w http.ResponseWriter, r *http.Request) {
	size, _ := strconv.ParseInt(r.FormValue("bytes"), 10, 64)
	_, _ = io.Copy(w, io.LimitReader(zeros{}, size))
}

// zeros is a source without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func do(c *http.Client, method, url string, body io.Reader) error {
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

package web

import (
	"context"
	"net/http"
	"time"
)

// devicePage asks for the code that a program shows which is to sign in.
func (w *Web) devicePage(_ context.Context, a asked) (string, view, error) {
	return "device", view{Title: "Sign a program in", Here: "access",
		Data: a.URL.Query().Get("user_code")}, nil
}

// device approves a code.
func (w *Web) device(rw http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(rw, r.Body, 64<<10)
	a, ok := w.ask(rw, r)
	if !ok {
		return
	}
	if !a.visit.knows(r.PostFormValue("csrf")) {
		http.Error(rw, "The page is out of date: reload it and try again.", http.StatusForbidden)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	v := view{Title: "Sign a program in", Here: "access", Data: r.PostFormValue("code")}
	status := http.StatusOK
	if err := a.api.ApproveDevice(ctx, r.PostFormValue("code")); err != nil {
		v.Error, status = explain(err)
	} else {
		v.Notice, v.Data = "The program signs in now. You can close this page.", ""
	}
	w.show(rw, a, status, "device", v)
}

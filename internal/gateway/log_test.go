package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
)

// TestLogTakesNothingOfCallers: what callers send does not end up in the log, in whole or
// in part, however it is wrong.
func TestLogTakesNothingOfCallers(t *testing.T) {
	w := newWorld(t, Options{})
	const secret = "Pr1vate"
	huge := strings.Repeat("9", 20<<20) + secret
	for name, send := range map[string]func() reply{
		"a number": func() reply {
			return w.do("POST", "executions?identifier=abcd", `{"code":"1","timeoutInSeconds":"`+
				huge+`"}`)
		},
		"a number's text": func() reply {
			return w.do("POST", "executions?identifier=abcd",
				`{"code":"1","outputStreamsMaxLength":"`+secret+`"}`)
		},
		"a wrong type": func() reply {
			return w.do("POST", "executions?identifier=abcd", `{"code":["`+secret+`"]}`)
		},
		"no JSON": func() reply { return w.do("POST", "executions?identifier=abcd", secret) },
		"base64": func() reply {
			return w.do("POST", "executions?identifier=abcd", `{"code":"`+secret+
				`!","codeInputType":"inlineBase64"}`)
		},
		"a form's line": func() reply {
			return w.do("POST", "files?identifier=abcd", secret+"\r\nx", "Content-Type",
				"multipart/form-data; boundary=b")
		},
		"a form's type": func() reply {
			return w.do("POST", "files?identifier=abcd", "x", "Content-Type", secret+"/; =")
		},
		"a part's header": func() reply {
			return w.do("POST", "files?identifier=abcd", "--b\r\n"+secret+"\r\n\r\nx\r\n--b--",
				"Content-Type", "multipart/form-data; boundary=b")
		},
		"a form's end": func() reply {
			return w.do("POST", "files?identifier=abcd",
				"--b\r\nContent-Disposition: form-data; name=file; filename=x\r\n\r\n"+
					secret, "Content-Type", "multipart/form-data; boundary=b")
		},
		"an identifier": func() reply {
			return w.do("GET", "identifier/"+secret+"-1/session", "")
		},
		"a file": func() reply {
			return w.do("GET", "files/"+secret+"/content?identifier=abcd", "")
		},
		"a path": func() reply { return w.do("GET", secret+"/"+secret, "") },
		"a name of a path": func() reply {
			return w.do("GET", "files/..%2f"+secret+"?identifier=abcd", "")
		},
	} {
		if got := send(); got.status < 400 || got.status >= 500 {
			t.Errorf("%s: %d %.200s", name, got.status, got.body)
		}
		if got := w.logged.String(); strings.Contains(got, secret) || len(got) > 64<<10 {
			t.Fatalf("%s: %d bytes are logged: %.500s", name, len(got), got)
		}
	}
}

// TestLogTakesNoNames: when a sandbox breaks off, the log tells of that and not of the files,
// contexts and terminals that were asked for.
func TestLogTakesNoNames(t *testing.T) {
	w := newWorldOf(t, Options{}, nil)
	w.served(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	var calls sync.WaitGroup
	for _, call := range []string{"GET files/Pr1vate?", "GET files?path=Pr1vate&",
		"GET files/Pr1vate/content?", "PUT files/Pr1vate/content?", "DELETE files/Pr1vate?",
		"POST files/a?operation=move&to=Pr1vate&", "GET archive?path=Pr1vate&",
		"PUT archive?path=Pr1vate&", "PUT contexts/Pr1vate?"} {
		calls.Go(func() {
			method, path, _ := strings.Cut(call, " ")
			if got := w.do(method, path+"identifier=abcd", ""); got.status != 503 {
				t.Errorf("%s: %d %s", call, got.status, got.body)
			}
		})
	}
	calls.Wait()
	log := w.logged.String()
	if strings.Count(log, "EOF") != 9 || strings.Contains(log, "Pr1vate") {
		t.Errorf("the log holds %s", log)
	}
}

// TestSlowReaderIsNoFaultOfTheServer: a caller that stops reading makes no ERROR.
func TestSlowReaderIsNoFaultOfTheServer(t *testing.T) {
	w := newWorld(t, Options{})
	w.execute = func(context.Context, *lease, agent.ExecuteRequest) (agent.ExecuteResult, error) {
		return agent.ExecuteResult{Outcome: agent.OK, Stdout: strings.Repeat("x", 16<<20)}, nil
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	body := `{"code":"1"}`
	fmt.Fprintf(conn,
		"POST %s/executions?identifier=abcd HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s",
		endpoint, len(body), body)
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil ||
		!strings.Contains(line, "200") {
		t.Fatalf("%q, %v", line, err)
	}
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	w.finish()
	if got := w.logged.String(); strings.Contains(got, "level=ERROR") ||
		strings.Contains(got, "level=WARN") {
		t.Errorf("the log holds %s", got)
	}
}

package clients_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"
)

// origin is where a page is served from.
type origin struct{ l net.Listener }

// newOrigin takes an address, so that its name is known before there is anything to serve.
func newOrigin(t *testing.T) origin {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return origin{l}
}

func (o origin) url() string { return "https://" + o.l.Addr().String() }

// ownPage opens a page in a browser that uses our client for TypeScript as npm has installed it. An
// origin that the server does not know gets nothing.
func (s *server) ownPage(t *testing.T, p project, known origin) {
	dir := filepath.Dir(s.authority)
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	browser := newBrowser(t, cert)
	pool, err := json.Marshal(map[string]string{"endpoint": s.endpoints[ample],
		"token": s.token(t, "session-executor")})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, "own/page.html")
	})
	mux.HandleFunc("GET /pool.json", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(pool)
	})
	mux.Handle("GET /sandpool/", http.StripPrefix("/sandpool/",
		http.FileServer(http.Dir(filepath.Join(p.dir, "node_modules/sandpool/dist")))))
	for _, tt := range []struct {
		from origin
		want map[string]any
	}{
		{known, map[string]any{"value": 42.0, "lines": "0\n1\n2\n", "left": 6.0, "file": "hello",
			"figure":  true,
			"refused": []any{"SandpoolError", 401.0, "InvalidAuthenticationToken", 32.0}}},
		{newOrigin(t), map[string]any{"error": "Unreachable"}},
	} {
		srv := httptest.NewUnstartedServer(mux)
		_ = srv.Listener.Close()
		srv.Listener = tt.from.l
		srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		srv.StartTLS()
		defer srv.Close()
		var text string
		if err := chromedp.Run(browser, chromedp.Navigate(tt.from.url()),
			chromedp.Poll(`document.title === "done"`, nil, chromedp.WithPollingTimeout(scriptTime)),
			chromedp.Evaluate("document.body.innerText", &text)); err != nil {
			t.Fatalf("%s: %v", tt.from.url(), err)
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("the page at %s (-want +got):\n%s", tt.from.url(), diff)
		}
	}
}

// newBrowser opens the distribution's browser, which trusts the certificate besides its own
// authorities.
func newBrowser(t *testing.T, cert tls.Certificate) context.Context {
	t.Helper()
	// The kernel ends the browser with the thread that started it, and the server ends threads.
	// This one stays until the test is done.
	runtime.LockOSThread()
	key := sha256.Sum256(cert.Leaf.RawSubjectPublicKeyInfo)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox,
		chromedp.DisableGPU, chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("ignore-certificate-errors-spki-list",
			base64.StdEncoding.EncodeToString(key[:])),
		chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(scriptTime))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), scriptTime)
	ctx, closeAll := chromedp.NewExecAllocator(ctx, options...)
	ctx, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(func() {
		// It waits for the browser's end, which still writes into its folder.
		if err := chromedp.Cancel(ctx); err != nil {
			t.Log(err)
		}
		closeTab()
		closeAll()
		cancel()
	})
	return ctx
}

package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// grpcFront is a server of gRPC in a container, and a client of it by way of the proxy.
func grpcFront(t *testing.T) (testgrpc.TestServiceClient, *container) {
	t.Helper()
	c := newContainer(t)
	srv := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(srv, interop.NewTestServer())
	l := c.listen(8080)
	go srv.Serve(l) //nolint:errcheck // it ends with the test
	t.Cleanup(srv.Stop)
	p := New(Options{})
	t.Cleanup(p.Close)
	front := front(t, p, c, Target{Port: 8080})
	conn, err := grpc.NewClient(front.Listener.Addr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return testgrpc.NewTestServiceClient(conn), c
}

// The interoperability cases of gRPC's authors pass: all four forms, metadata, statuses, deadlines,
// cancellation. A case that fails ends the test program.
func TestGRPC(t *testing.T) {
	client, _ := grpcFront(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for name, do := range map[string]func(context.Context, testgrpc.TestServiceClient,
		...grpc.CallOption){
		"empty unary": interop.DoEmptyUnaryCall, "large unary": interop.DoLargeUnaryCall,
		"client streaming": interop.DoClientStreaming,
		"server streaming": interop.DoServerStreaming,
		"both streaming":   interop.DoPingPong, "empty stream": interop.DoEmptyStream,
		"metadata": interop.DoCustomMetadata, "status": interop.DoStatusCodeAndMessage,
		"special status":       interop.DoSpecialStatusMessage,
		"deadline":             interop.DoTimeoutOnSleepingServer,
		"cancel in the middle": interop.DoCancelAfterFirstResponse,
	} {
		t.Run(name, func(t *testing.T) { do(ctx, client) })
	}
	// Their case of a call that is taken back at its beginning also ends what it sends, so that an
	// answer may be quicker than the client's notice.
	begun, takeBack := context.WithCancel(ctx)
	stream, err := client.StreamingInputCall(begun)
	takeBack()
	if err == nil {
		err = stream.RecvMsg(new(testgrpc.StreamingInputCallResponse))
	}
	if status.Code(err) != codes.Canceled {
		t.Errorf("a call that is taken back at its beginning: %v", err)
	}
}

// A call under which the session ends has an error at once.
func TestGRPCSessionEnds(t *testing.T) {
	client, c := grpcFront(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := client.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ask := &testgrpc.StreamingOutputCallRequest{ResponseParameters: []*testgrpc.ResponseParameters{
		{Size: 10}}}
	for range 3 {
		if err := stream.Send(ask); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	c.end("the session was deleted")
	if _, err := stream.Recv(); err == nil || ctx.Err() != nil {
		t.Errorf("%v", err)
	}
	if _, err := client.EmptyCall(ctx, &testgrpc.Empty{}); status.Code(err) == codes.OK {
		t.Errorf("afterwards: %v", err)
	}
}

// What HTTP/2 lets into a request's head, and HTTP/1.1 would read as its end, is refused.
func TestSplittingByHTTP2(t *testing.T) {
	arrived := make(chan string, 16)
	srv, _ := newFront(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- r.RequestURI
	}))
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, bad := range []map[string]string{
		{":path": "/a HTTP/1.1\r\nHost: x\r\n\r\nGET /smuggled"}, {":path": "/a b"}, {
			":path": "/a\tb"}, {":path": "/a\x00b"}, {":path": "/?a b"}, {":path": "*"},
		{":path": "/a", ":method": "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\nGET"}, {":path": "/a",
			":method": "G T"}, {":path": "/a", ":method": ""},
		{":path": "/a", ":authority": "x\r\nX-Forwarded-For: forged"}, {":path": "/a",
			":authority": "x y"}, {":path": "/a", ":authority": `x"y`},
		{":path": "/a", "x-a": "b\r\nTransfer-Encoding: chunked"}, {":path": "/a", "x-a\r\nb": "c"},
		{":path": "/a", "x a": "c"}, {":path": "/a", "transfer-encoding": "chunked"},
		{":path": "/a", "connection": "x"}, {":path": "/a", "x-a": "b\nc"}, {":path": "/a",
			"x-a": "b\x00c"},
	} {
		if status := ask2(t, srv.Listener.Addr().String(), bad); status == "200" {
			t.Errorf("%q is forwarded", bad)
		}
	}
	// Length and body that differ.
	if status := ask2(t, srv.Listener.Addr().String(), map[string]string{":path": "/a",
		":method": "POST", "content-length": "5"}); status == "200" {
		t.Error("a length without a body is forwarded")
	}
	if status := ask2(t, srv.Listener.Addr().String(),
		map[string]string{":path": "/good?a=b;c"}); status != "200" {
		t.Errorf("status %q of a good request", status)
	}
	close(arrived)
	for uri := range arrived {
		if uri != "/good?a=b;c" {
			t.Errorf("%q arrived", uri)
		}
	}
}

// HTTP/2 on both sides, without gRPC: byte for byte as by HTTP/1.1.
func TestHTTP2(t *testing.T) {
	c := newContainer(t)
	c.serve(8080, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Proto", r.Proto)
		w.Header().Set("X-Uri", r.RequestURI)
		w.Header().Set("X-Names", strings.Join(nominatedForTest(r.Header), " "))
		w.Header().Set("Trailer", "X-Sum")
		w.Header()["Content-Type"] = nil
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.Copy(w, r.Body)
		w.Header().Set("X-Sum", r.Trailer.Get("X-Ask"))
	}))
	p := New(Options{})
	t.Cleanup(p.Close)
	srv := front(t, p, c, Target{Port: 8080, HTTP2: true})
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	two := &http.Client{Transport: &http.Transport{Protocols: &protocols}}
	for name, client := range map[string]*http.Client{"from HTTP/1.1": http.DefaultClient,
		"from HTTP/2": two} {
		t.Run(name, func(t *testing.T) {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL,
				io.NopCloser(strings.NewReader("hello")))
			r.URL.Opaque = "//" + r.URL.Host + "//a//../%2F;x?a;b=%zz"
			r.Trailer = http.Header{"X-Ask": {"7"}}
			r.Header.Set("Authorization", "Bearer secret")
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || string(body) != "hello" || resp.Trailer.Get("X-Sum") != "7" ||
				resp.Header.Get("X-Proto") != "HTTP/2.0" {
				t.Errorf("%q, %v, %v, trailer %v", body, err, resp.Header, resp.Trailer)
			}
			if got := resp.Header.Get("X-Uri"); got != "//a//../%2F;x?a;b=%zz" {
				t.Errorf("the path is %q", got)
			}
			if names := resp.Header.Get("X-Names"); strings.Contains(names, "Authorization") ||
				!strings.Contains(names, "X-Forwarded-For") {
				t.Errorf("fields %s", names)
			}
		})
	}
}

// A container that does not speak HTTP/2 is an error of its own, not a hang.
func TestNoHTTP2(t *testing.T) {
	c := newContainer(t)
	c.answers(8080, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
	p := New(Options{})
	t.Cleanup(p.Close)
	srv := front(t, p, c, Target{Port: 8080, HTTP2: true})
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadGateway {
		t.Errorf("%s", resp.Status)
	}
}

func nominatedForTest(h http.Header) (names []string) {
	for name := range h {
		names = append(names, name)
	}
	return names
}

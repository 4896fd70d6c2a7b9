package proxy

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const nginxConf = `
daemon off; user root; worker_processes 2; pid %[1]s/pid; error_log %[1]s/log;
events { worker_connections 1024; }
http {
  access_log off; client_max_body_size 0; keepalive_requests 100000000;
  client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p;
  fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  upstream container { server unix:%[2]s; keepalive 64; keepalive_requests 100000000; }
  map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
  server {
    listen %[3]s; server_tokens off; ignore_invalid_headers off;
    location / {
      proxy_pass http://container; proxy_http_version 1.1;
      proxy_buffering off; proxy_request_buffering off;
      proxy_set_header Connection $connection_upgrade; proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Host $http_host; proxy_set_header Authorization '';
      proxy_pass_header Server; proxy_pass_header Date;
    }
  }
}`

// nginx starts Debian's nginx in front of the Unix socket at path and returns its address.
func nginx(t testing.TB, path string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	dir := t.TempDir()
	conf := filepath.Join(dir, "conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir, path, addr), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, "nginx", "-p", dir, "-c", conf)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) } // its workers end with it
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: make test-deps installs nginx", err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait()
	})
	end := time.After(time.Minute)
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			return addr
		}
		select {
		case <-end:
			t.Fatalf("nginx does not serve: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

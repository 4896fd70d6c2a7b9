package loopback

import "testing"

func TestIs(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "LocalHost:8720": true, "127.0.0.1": true, "127.9.9.9:80": true,
		"::1": true, "[::1]": true, "[::1]:8720": true, "::ffff:127.0.0.1": true,

		"": false, ":8720": false, "0.0.0.0": false, "[::]:80": false, "10.0.0.1": false,
		"192.0.2.1:80": false, "::ffff:192.0.2.1": false, "2130706433": false, "127.1": false,
		"localhost.example.com": false, "127.0.0.1.example.com": false, "xlocalhost": false,
		"localhost:80:80": false,
	} {
		if got := Is(host); got != want {
			t.Errorf("%q is this machine: %v, want %v", host, got, want)
		}
	}
}

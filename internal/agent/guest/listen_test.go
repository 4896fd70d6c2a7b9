package guest

import (
	"fmt"
	"net"
	"testing"
)

// For a port alone there is a listener at each address, and none at all of them at once.
func TestListenAtEach(t *testing.T) {
	one, err := listen("127.0.0.1:0")
	if err != nil || len(one) != 1 {
		t.Fatal(one, err)
	}
	port := one[0].Addr().(*net.TCPAddr).Port
	if _, err := listen(fmt.Sprintf(":%d", port)); err == nil {
		t.Error("it listens at a port that is taken at one address")
	}
	if err := one[0].Close(); err != nil {
		t.Fatal(err)
	}
	all, err := listen(fmt.Sprintf(":%d", port))
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	for _, l := range all {
		if l.Addr().(*net.TCPAddr).IP.IsUnspecified() {
			t.Errorf("it listens at %v", l.Addr())
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

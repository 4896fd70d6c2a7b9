// Package access_test asks a whole server, with every kind of token, for everything that it has,
// and checks who is let in.
package access_test

import (
	"os"
	"testing"

	"github.com/sandpool/sandpool/internal/server"
)

func TestMain(m *testing.M) {
	server.HandOver() // of sandboxes, which the engine starts with this program
	os.Exit(m.Run())
}

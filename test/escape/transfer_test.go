package escape_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand"
	"testing"
	"time"

	"github.com/sandpool/sandpool/client"
)

// transfer: what the host sends arrives whole, however slowly a busy sandbox reads it.
func (k *target) transfer(t *testing.T) {
	data := make([]byte, 40<<20)
	rand.New(rand.NewSource(1)).Read(data)
	want := fmt.Sprintf("%x\n", sha256.Sum256(data))
	s := k.session(t, "box")
	s.prints(t, "import subprocess\nfor i in range(6): subprocess.Popen(['sh', '-c', 'while :; "+
		"do :; done'])")
	for i := range 3 {
		begin := time.Now()
		_, err := k.UploadFile(t.Context(), mine, s.id, "f", bytes.NewReader(data))
		if err != nil {
			t.Fatalf("upload %d: %v after %v", i, err, time.Since(begin))
		}
		// The pool's disk has room for one.
		if got := s.prints(t, "import hashlib, os; "+
			"print(hashlib.sha256(open('/mnt/data/f','rb').read()).hexdigest()); "+
			"os.remove('/mnt/data/f')"); got != want {
			t.Errorf("upload %d is stored as %s", i, got)
		}
	}
	got, err := k.Execute(t.Context(), mine, s.id,
		client.Run{Code: "x = '" + string(bytes.Repeat([]byte("z"), 8<<20)) + "'",
			Timeout: time.Minute})
	if err != nil || got.Failed() {
		t.Errorf("8 MB of code: %s %v %.300q", got.Status, err, got.Result.Stderr)
	}
}

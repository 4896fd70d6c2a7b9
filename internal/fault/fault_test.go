package fault

import (
	"testing"

	"github.com/sandpool/sandpool"
)

// TestTable checks that every class has one row, which its code leads back to.
func TestTable(t *testing.T) {
	for class := sandpool.Internal; class <= sandpool.Ended; class++ {
		r := rowOf(class)
		if r.class != class || r.status < 400 || r.code == "" || ClassOf(0, r.code) != class {
			t.Errorf("%v has the row %+v", class, r)
		}
	}
	if len(table) != int(sandpool.Ended)+1 {
		t.Errorf("the table has %d rows", len(table))
	}
	for _, r := range special {
		if ClassOf(r.status, r.code) != r.class || Status(r.class, r.code, 0) != r.status {
			t.Errorf("%s is class %v and status %d", r.code, ClassOf(r.status, r.code),
				Status(r.class, r.code, 0))
		}
	}
	if OfGuest(sandpool.Ended) || OfGuest(sandpool.Full) || OfGuest(-1) ||
		!OfGuest(sandpool.Unavailable) {
		t.Error("an agent may say what is the pool's to say")
	}
}

func TestClassOfForeignAnswers(t *testing.T) {
	for status, want := range map[int]sandpool.Class{
		418: sandpool.Invalid, 429: sandpool.Full, 500: sandpool.Internal,
		502: sandpool.Unavailable,
		503: sandpool.Unavailable, 401: sandpool.Unauthenticated, 403: sandpool.Denied,
		404: sandpool.NotFound, 501: sandpool.Unsupported,
	} {
		if got := ClassOf(status, "FromElsewhere"); got != want {
			t.Errorf("ClassOf(%d) = %v, want %v", status, got, want)
		}
	}
}

package usage

import (
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// TestKey: a record under a key says nothing that somebody without it can try identifiers on, is
// found by its identifier and by what it says, beside those from before there was a key, and shows
// to whoever has a role for that one identifier.
func TestKey(t *testing.T) {
	key := Key("0123456789abcdef0123456789abcdef")
	old := hourOf("alpha", "one-", "token:a", noon)
	keyed := hourOf("alpha", "one-", "token:a", noon.Add(time.Hour))
	keyed.Sandbox, keyed.Identifier = "keyed", key.name("one-")
	other := hourOf("alpha", "two-", "token:b", noon)
	other.Identifier = key.name("two-")
	hash := sandpool.Identifier("one-").Hash()
	if keyed.Identifier == hash || len(keyed.Identifier) != len(hash) ||
		keyed.Identifier == Key("another key").name("one-") {
		t.Fatalf("the record says %s", keyed.Identifier)
	}
	d := NewReader(rowsOf(t, old, keyed, other))
	d.Key = key
	for asked, want := range map[string]int{"": 3, hash: 2, keyed.Identifier: 1,
		sandpool.Identifier("two-").Hash(): 1, sandpool.Identifier("no").Hash(): 0} {
		got := answer[api.UsageRecords](t, ask(t, d, admin,
			"/sandpool/usage/records?identifierHash="+asked))
		if len(got.Value) != want {
			t.Errorf("%q finds %d records, want %d", asked, len(got.Value), want)
		}
	}
}

package storetest

import (
	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

// documents are found by kind and by the beginning of their key, and survive a restart.
func documents(s *suite) {
	kept, ok := s.Store.(store.Documents)
	if !ok {
		s.Fatal("the store keeps no documents")
	}
	ctx := s.Context()
	a := store.Document{Kind: "group", Key: "/s/a", Text: `{"x":"é%_"}`}
	b := store.Document{Kind: "group", Key: "/s/a_b", Text: "2"}
	c := store.Document{Kind: "group", Key: "/s/aXb", Text: "3"}
	d := store.Document{Kind: "other", Key: "/s/a", Text: "4"}
	for _, each := range []store.Document{c, d, b, a} {
		s.must(kept.PutDocument(ctx, each))
	}
	want := func(from store.Documents, kind, prefix string, want ...store.Document) {
		s.Helper()
		got, err := from.Documents(ctx, kind, prefix)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			s.Errorf("Documents(%q, %q): %v, -want +got\n%s", kind, prefix, err, diff)
		}
	}
	want(kept, "group", "", a, c, b)
	want(kept, "group", "/s/a_", b) // the underscore is itself
	want(kept, "nothing", "")
	b.Text = "new"
	s.must(kept.PutDocument(ctx, b))
	again, ok := s.Reopen(s.T).(store.Documents)
	if !ok {
		s.Fatal("the same store keeps no documents")
	}
	want(again, "group", "/s/a", a, c, b)
	s.must(kept.DeleteDocument(ctx, "group", "/s/a"))
	s.must(kept.DeleteDocument(ctx, "group", "/s/a"))
	want(kept, "group", "/s/a", c, b)
	if got, err := kept.Document(ctx, "other", "/s/a"); err != nil || got != d {
		s.Errorf("Document: %+v, %v", got, err)
	}
	_, err := kept.Document(ctx, "group", "/s/a")
	s.wantClass(err, sandpool.NotFound)
	agreeing, ok := s.Store.(store.Agreeing)
	if !ok {
		s.Fatal("nobody can agree on what the store keeps")
	}
	first, second := store.Document{Kind: "agreed", Key: "k", Text: "first"},
		store.Document{Kind: "agreed", Key: "k", Text: "second"}
	for _, offer := range []store.Document{first, second, first} {
		if got, err := agreeing.Agree(ctx, offer); err != nil || got != first {
			s.Errorf("on %q they agree as %+v, %v", offer.Text, got, err)
		}
	}
	want(kept, "agreed", "", first)
}

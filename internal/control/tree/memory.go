package tree

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

// Memory keeps documents for as long as the process lives, for servers without a store, such as
// those of tests. The zero value is empty.
type Memory struct {
	mu   sync.Mutex // guards docs
	docs []store.Document
}

var (
	_ store.Documents = (*Memory)(nil)
	_ store.Agreeing  = (*Memory)(nil)
)

func (m *Memory) find(kind, key string) (int, bool) {
	return slices.BinarySearchFunc(m.docs, kind+"\x00"+key,
		func(d store.Document, want string) int { return strings.Compare(d.Kind+"\x00"+d.Key, want) })
}

// Documents implements store.Documents.
func (m *Memory) Documents(_ context.Context, kind, prefix string) ([]store.Document, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []store.Document
	for _, d := range m.docs {
		if d.Kind == kind && strings.HasPrefix(d.Key, prefix) {
			out = append(out, d)
		}
	}
	return out, nil
}

// Document implements store.Documents.
func (m *Memory) Document(_ context.Context, kind, key string) (store.Document, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, ok := m.find(kind, key)
	if !ok {
		return store.Document{}, sandpool.Errorf(sandpool.NotFound, "", kind,
			"There is no %s %q.", kind, key)
	}
	return m.docs[i], nil
}

// PutDocument implements store.Documents.
func (m *Memory) PutDocument(_ context.Context, d store.Document) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, ok := m.find(d.Kind, d.Key)
	if !ok {
		m.docs = slices.Insert(m.docs, i, d)
	}
	m.docs[i] = d
	return nil
}

// Agree implements store.Agreeing.
func (m *Memory) Agree(_ context.Context, d store.Document) (store.Document, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, ok := m.find(d.Kind, d.Key)
	if !ok {
		m.docs = slices.Insert(m.docs, i, d)
	}
	return m.docs[i], nil
}

// DeleteDocument implements store.Documents.
func (m *Memory) DeleteDocument(_ context.Context, kind, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i, ok := m.find(kind, key); ok {
		m.docs = slices.Delete(m.docs, i, i+1)
	}
	return nil
}

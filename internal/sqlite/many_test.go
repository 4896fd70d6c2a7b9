package sqlite_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/sandpool/sandpool/internal/store/storetest"
)

// crowd is a store that copies its pools by itself.
func crowd(t testing.TB) storetest.Crowd {
	s := open(t, filepath.Join(t.TempDir(), "state.db"))
	return storetest.Crowd{Store: s, Copy: func(ctx context.Context, n int) error {
		return s.CopyPools(ctx, n)
	}}
}

func TestManyPools(t *testing.T) { storetest.Flat(t, crowd) }

func BenchmarkManyPools(b *testing.B) { storetest.Benchmark(b, crowd) }

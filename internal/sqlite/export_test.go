package sqlite

import (
	"context"
	"fmt"
)

// LimitPages bounds the size of the file.
func (s *Store) LimitPages(ctx context.Context, n int) error {
	_, err := s.writer.ExecContext(ctx, fmt.Sprintf("PRAGMA max_page_count=%d", n))
	return err
}

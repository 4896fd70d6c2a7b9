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

// Hold takes the writing connection, and gives it back when the function it returns is called.
func (s *Store) Hold() (release func()) {
	<-s.turn
	return func() { s.turn <- struct{}{} }
}

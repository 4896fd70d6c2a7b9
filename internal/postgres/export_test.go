package postgres

import "time"

// SetPatience sets how long a write is tried again.
func (s *Store) SetPatience(d time.Duration) { s.patience = d }

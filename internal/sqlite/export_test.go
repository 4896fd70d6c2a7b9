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

// CopyPools makes copies of the pool p00000, up to n pools in all.
func (s *Store) CopyPools(ctx context.Context, n int) error {
	_, err := s.writer.ExecContext(ctx, `WITH RECURSIVE numbers(i) AS (
			SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < ?)
		INSERT INTO pools (key, `+poolColumns+`, owner, epoch)
		SELECT replace(key, 'p00000', printf('p%05d', i)), subscription, resource_group,
			printf('p%05d', i), `+poolColumns[len("subscription, resource_group, name, "):]+`, owner, epoch
		FROM pools, numbers WHERE name = 'p00000'`, n)
	return err
}

// Undumped are the tables that a dump leaves out.
func (s *Store) Undumped(ctx context.Context) (names []string, err error) {
	rows, err := s.reads.QueryContext(ctx,
		"SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	dumped := map[string]bool{}
	for _, d := range dumps() {
		dumped[d.table] = true
	}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		if !dumped[name] {
			names = append(names, name)
		}
	}
	return names, rows.Err()
}

// PlanOfQuota is how SQLite counts the sessions of a principal.
func (s *Store) PlanOfQuota(ctx context.Context) (plan string, err error) {
	var id, parent, unused int
	err = s.reads.QueryRowContext(ctx, "EXPLAIN QUERY PLAN "+sessionsOfPrincipal, "a", "b", "c").
		Scan(&id, &parent, &unused, &plan)
	return plan, err
}

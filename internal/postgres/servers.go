package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sandpool/sandpool/internal/store"
)

// Servers implements store.Servers.
func (s *Store) Servers(ctx context.Context) ([]store.Server, error) {
	rows, err := s.db.Query(ctx,
		"SELECT name, instance, address, place, locations, beat FROM servers ORDER BY name")
	if err != nil {
		return nil, fmt.Errorf("read servers: %w", explain(err))
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (v store.Server, err error) {
		var locations string
		err = row.Scan(&v.Name, &v.Instance, &v.Address, &v.Place, &locations, &v.Beat)
		v.Locations = store.ReadLocations(locations)
		return v, err
	})
	if err != nil {
		return nil, fmt.Errorf("read servers: %w", explain(err))
	}
	return orNil(list), nil
}

// join takes beats from one sequence, so that no name has one twice.
const join = `INSERT INTO servers (name, instance, address, place, locations, beat)
	VALUES ($1, $2, $3, $4, $5, nextval('beats'))
	ON CONFLICT (name) DO UPDATE SET instance = $2, address = $3, place = $4, locations = $5,
		beat = nextval('beats')`

// Join implements store.Servers.
func (s *Store) Join(ctx context.Context, v store.Server) error {
	return s.retry(ctx, fmt.Sprintf("write server %q", v.Name),
		func(ctx context.Context, _ bool) error {
			_, err := s.db.Exec(ctx, join, text(v.Name), text(v.Instance), text(v.Address),
				text(v.Place), text(store.LocationsText(v.Locations)))
			return err
		})
}

// Beat implements store.Servers. It is not tried again: a beat that comes late says nothing, and
// the next comes soon.
func (s *Store) Beat(ctx context.Context, name, instance string) error {
	done, err := s.db.Exec(ctx,
		"UPDATE servers SET beat = nextval('beats') WHERE name = $1 AND instance = $2",
		text(name), text(instance))
	if err == nil && done.RowsAffected() == 0 {
		err = store.ErrNameTaken
	}
	if err != nil {
		return fmt.Errorf("write the beat of server %q: %w", name, explain(err))
	}
	return nil
}

// Leave implements store.Servers.
func (s *Store) Leave(ctx context.Context, name, instance string) error {
	return s.retry(ctx, fmt.Sprintf("write the end of server %q", name),
		func(ctx context.Context, _ bool) error {
			_, err := s.db.Exec(ctx,
				"UPDATE servers SET beat = 0 WHERE name = $1 AND instance = $2",
				text(name), text(instance))
			return err
		})
}

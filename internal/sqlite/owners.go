package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

const own = `UPDATE pools SET owner = ?2, epoch = epoch + 1 WHERE key = ?1 AND epoch = ?3
	RETURNING epoch`

// Holds implements store.Owners.
func (s *Store) Holds(ctx context.Context) (holds []store.Hold, err error) {
	rows, err := s.reads.QueryContext(ctx,
		"SELECT subscription, resource_group, name, location, owner, epoch FROM pools ORDER BY key")
	if err != nil {
		return nil, fmt.Errorf("read owners: %w", explain(err))
	}
	defer rows.Close()
	for rows.Next() {
		var h store.Hold
		if err := rows.Scan(&h.Pool.Subscription, &h.Pool.ResourceGroup, &h.Pool.Name,
			&h.Location, &h.Owner, &h.Epoch); err != nil {
			return nil, fmt.Errorf("read owners: %w", explain(err))
		}
		holds = append(holds, h)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read owners: %w", explain(err))
	}
	return holds, nil
}

// Own implements store.Owners.
func (s *Store) Own(ctx context.Context, id sandpool.PoolID, owner string,
	seen int64) (epoch int64, err error) {
	err = s.writeSynced(ctx, fmt.Sprintf("own pool %q", id.Key()), func(ctx context.Context) error {
		err := s.stmts.own.QueryRowContext(ctx, id.Key(), owner, seen).Scan(&epoch)
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if _, err := s.epoch(ctx, id); err != nil {
			return err
		}
		return store.NotOwner(id)
	})
	return epoch, err
}

// Servers implements store.Servers.
func (s *Store) Servers(ctx context.Context) (list []store.Server, err error) {
	rows, err := s.reads.QueryContext(ctx,
		"SELECT name, instance, address, place, locations, beat FROM servers ORDER BY name")
	if err != nil {
		return nil, fmt.Errorf("read servers: %w", explain(err))
	}
	defer rows.Close()
	for rows.Next() {
		var v store.Server
		var locations string
		if err := rows.Scan(&v.Name, &v.Instance, &v.Address, &v.Place, &locations,
			&v.Beat); err != nil {
			return nil, fmt.Errorf("read servers: %w", explain(err))
		}
		v.Locations = store.ReadLocations(locations)
		list = append(list, v)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read servers: %w", explain(err))
	}
	return list, nil
}

// Join implements store.Servers. The counter grows when a server leaves, too, so no name has a
// beat twice.
func (s *Store) Join(ctx context.Context, v store.Server) error {
	return s.write(ctx, fmt.Sprintf("write server %q", v.Name), func(ctx context.Context) error {
		_, err := s.stmts.join.ExecContext(ctx, v.Name, v.Instance, v.Address, v.Place,
			store.LocationsText(v.Locations))
		return err
	})
}

// Beat implements store.Servers.
func (s *Store) Beat(ctx context.Context, name, instance string) error {
	return s.write(ctx, fmt.Sprintf("write the beat of server %q", name),
		func(ctx context.Context) error {
			done, err := s.stmts.beat.ExecContext(ctx, name, instance)
			if err != nil {
				return err
			}
			if n, err := done.RowsAffected(); err != nil || n > 0 {
				return err
			}
			return store.ErrNameTaken
		})
}

// Leave implements store.Servers.
func (s *Store) Leave(ctx context.Context, name, instance string) error {
	return s.write(ctx, fmt.Sprintf("write the end of server %q", name),
		func(ctx context.Context) error {
			_, err := s.stmts.leave.ExecContext(ctx, name, instance)
			return err
		})
}

// epoch returns the epoch of a pool's row, in a transaction.
func (s *Store) epoch(ctx context.Context, id sandpool.PoolID) (epoch int64, err error) {
	err = s.stmts.epoch.QueryRowContext(ctx, id.Key()).Scan(&epoch)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, unknownPool(id, err)
	}
	return epoch, err
}

func unknownPool(id sandpool.PoolID, err error) error {
	return &sandpool.Error{Class: sandpool.NotFound,
		Message: fmt.Sprintf("The pool %q does not exist.", id.Name), Err: err}
}

// fence refuses a transaction of an earlier owner.
func (s *Store) fence(ctx context.Context, id sandpool.PoolID, epoch int64) error {
	now, err := s.epoch(ctx, id)
	if err == nil && now != epoch {
		err = store.NotOwner(id)
	}
	return err
}

// ignoreUnknown returns nil for what is to be removed and is not there.
func ignoreUnknown(err error) error {
	if err != nil && sandpool.ClassOf(err) == sandpool.NotFound {
		return nil
	}
	return err
}

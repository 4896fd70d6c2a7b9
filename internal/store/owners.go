package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
)

// ErrNotOwner is in the error of a write that names another epoch than the pool's row.
var ErrNotOwner = errors.New("another server owns the session pool")

// NotOwner is the error of a write by somebody who is not the owner any more. The caller is to try
// again: the request finds the owner then.
func NotOwner(id sandpool.PoolID) error {
	return &sandpool.Error{Class: sandpool.Unavailable, Code: "SessionPoolOwnerChanged",
		Target: "sessionPool",
		Message: fmt.Sprintf("The session pool %q has moved to another server; try again.",
			id.Name),
		RetryAfter: time.Second, Err: ErrNotOwner}
}

// Hold says who owns a pool.
type Hold struct {
	Pool     sandpool.PoolID
	Location string // of the pool
	Owner    string
	Epoch    int64
}

// Owners keeps who owns pools.
type Owners interface {
	// Holds returns who owns each pool, ordered by key.
	Holds(ctx context.Context) ([]Hold, error)
	// Own makes owner the owner of a pool whose epoch is seen, and returns the new one, seen+1. A
	// pool with another epoch is ErrNotOwner, an unknown one an error of class NotFound.
	Own(ctx context.Context, id sandpool.PoolID, owner string, seen int64) (epoch int64, err error)
}

// ErrNameTaken is in the error of a server's beat when another server has its name.
var ErrNameTaken = errors.New("another server has taken this server's name")

// Server is one of the servers that share a store.
type Server struct {
	// Name is what it is called as an owner.
	Name string
	// Instance tells it from another server that was given the same name. It stays the same when
	// the server is restarted.
	Instance string
	// Address is where other servers reach it, host:port; empty if they cannot.
	Address string
	// Place says where its sandboxes run. Servers with the same place can adopt each other's.
	Place string
	// Locations are those of the pools that it serves, as its operator spells them, without
	// commas; none means that it serves every pool.
	Locations []string
	// Beat changes as long as it lives. It is zero once the server has left in an orderly way.
	Beat int64
}

// Serves reports whether the server serves pools of a location.
func (s Server) Serves(location string) bool {
	return len(s.Locations) == 0 || slices.ContainsFunc(s.Locations, func(own string) bool {
		return sandpool.PlainLocation(own) == sandpool.PlainLocation(location)
	})
}

// LocationsText is how stores keep Server.Locations.
func LocationsText(list []string) string { return strings.Join(list, ",") }

// ReadLocations is the inverse of LocationsText.
func ReadLocations(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// Servers keeps which servers share the store.
type Servers interface {
	// Servers returns all, ordered by name.
	Servers(ctx context.Context) ([]Server, error)
	// Join writes a server's row, in place of one of the same name, and gives it a beat that the
	// name has not had.
	Join(ctx context.Context, s Server) error
	// Beat gives a server another beat. If its name is another instance's now, or its row is gone,
	// that is ErrNameTaken.
	Beat(ctx context.Context, name, instance string) error
	// Leave makes the server's beat zero. One that is another instance's stays as it is.
	Leave(ctx context.Context, name, instance string) error
}

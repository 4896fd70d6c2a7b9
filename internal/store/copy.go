package store

import "context"

// Row is a row of one of a store's tables. Every kind of store has tables and columns of the same
// names for the same things.
type Row struct {
	Table   string
	Columns []string
	Values  []any // string, int64, []byte or nil, one for each column
}

// Dumper is a store whose content can be carried into one of another kind.
type Dumper interface {
	// Dump calls each for every row, of one moment, until it returns an error, which is returned.
	// Rows come after those that they refer to, and in the order in which they were inserted where
	// that counts. Which servers there are is left out. Secrets are as they are kept: sealed.
	Dump(ctx context.Context, each func(Row) error) error
}

// Loader is a store that can be filled with another's content.
type Loader interface {
	// Load takes all rows of from, or none. A store that has any is an error of class Conflict.
	Load(ctx context.Context, from Dumper) error
}

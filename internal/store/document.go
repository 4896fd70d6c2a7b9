package store

import "context"

// Document is something that the control plane keeps and that is no pool: a resource group, an
// environment, an identity, a role assignment, a deployment.
type Document struct {
	// Kind says what it is, such as "resourceGroup".
	Kind string
	// Key tells it from others of its kind: its resource id in lower case.
	Key string
	// Text is what it says, in JSON.
	Text string
}

// Documents keeps documents. What is written survives a power cut.
type Documents interface {
	// Documents returns those of a kind whose key begins with prefix, ordered by key.
	Documents(ctx context.Context, kind, prefix string) ([]Document, error)
	// Document returns one, or an error of class NotFound.
	Document(ctx context.Context, kind, key string) (Document, error)
	// PutDocument inserts d or replaces the one of its kind and key.
	PutDocument(ctx context.Context, d Document) error
	// DeleteDocument removes one. An unknown one is not an error.
	DeleteDocument(ctx context.Context, kind, key string) error
}

// Agreeing lets several that offer a document have the same one.
type Agreeing interface {
	// Agree keeps d unless there is a document of its kind and key, and returns the one that is
	// kept: of several servers that each offer one, all get the same.
	Agree(ctx context.Context, d Document) (Document, error)
}

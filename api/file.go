package api

// OldFiles answers the file calls up to 2024-08-02-preview: a list, also for one file.
type OldFiles struct {
	SerialID string    `json:"$id"`
	Value    []OldFile `json:"value"`
}

// OldFile wraps a file's properties.
type OldFile struct {
	SerialID   string       `json:"$id"`
	Properties OldFileProps `json:"properties"`
}

// OldFileProps is a file in the old envelope.
type OldFileProps struct {
	SerialID string `json:"$id"`
	// Filename is relative to /mnt/data, directories included.
	Filename         string `json:"filename"`
	Size             int64  `json:"size"`
	LastModifiedTime string `json:"lastModifiedTime"` // RFC 3339
}

// Message answers DELETE of a file in the old envelope.
type Message struct {
	Message string `json:"message"`
}

// The values of File.Type. FoundationaLLM compares them in lower case.
const (
	TypeFile      = "file"
	TypeDirectory = "directory"
)

// File is a SessionResourceFile, from 2024-10-02-preview on.
type File struct {
	Name        string `json:"name"`
	Type        string `json:"type"`
	ContentType string `json:"contentType"` // of a directory "inode/directory"
	SizeInBytes int64  `json:"sizeInBytes"`
	// LastModifiedAt is RFC 3339.
	LastModifiedAt string `json:"lastModifiedAt"`
	// Directory is where the file is, relative to /mnt/data; empty at its top.
	Directory string `json:"directory,omitempty"`
	// EncodedPath is the path below /mnt/data with its bytes percent-encoded, as it stands in URLs,
	// of a file whose path is no UTF-8.
	EncodedPath string `json:"encodedPath,omitempty"`
	// SHA256 is of the content, in hexadecimal digits, where digest=sha256 asked for it.
	SHA256 string `json:"sha256,omitempty"`
}

// Unpacked says what came of an archive.
type Unpacked struct {
	Files int `json:"files"` // that were made, directories included
}

// Files is a page of File; NextLink is null on the last page.
type Files struct {
	Value    []File  `json:"value"`
	NextLink *string `json:"nextLink"`
}

// FileEvent is something that has happened to a file or a directory of a session.
type FileEvent struct {
	Sequence int64 `json:"sequence,omitempty"`
	// Type is ready, created, modified, removed, moved, overflow (some events are lost: list
	// again) or error.
	Type string `json:"type"`
	// Path is from /mnt/data, and From the one before a move.
	Path      string `json:"path,omitempty"`
	From      string `json:"from,omitempty"`
	Directory bool   `json:"directory,omitempty"`
	// EncodedPath and EncodedFrom are paths that are no UTF-8, percent-encoded.
	EncodedPath string       `json:"encodedPath,omitempty"`
	EncodedFrom string       `json:"encodedFrom,omitempty"`
	Error       *ErrorDetail `json:"error,omitempty"`
}

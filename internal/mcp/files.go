package mcp

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/interpreter"
)

// Bounds of what one call moves. Models read no more; programs have the data plane's files.
const (
	maxRead    = 4 << 20
	maxWrite   = 16 << 20
	maxListed  = 1000
	dataDir    = agent.DataDir
	uriScheme  = "sandpool"
	uriPattern = uriScheme + "://environments/{environmentId}/files/{+path}"
)

type fileArguments struct {
	EnvironmentID string  `json:"environmentId"`
	Path          string  `json:"path"`
	Content       *string `json:"content"`
	Encoding      string  `json:"encoding"`
	Offset        int64   `json:"offset"`
	Length        int64   `json:"length"`
	Recursive     bool    `json:"recursive"`
}

// fileTools are the tools for the files of an environment.
func fileTools() []tool { return []tool{listTool(), readTool(), writeTool()} }

// pathOf is the argument that names a file, and sizeOf a size in bytes.
func pathOf() schema {
	return text("The file, from " + dataDir + ", such as \"report.csv\" or \"plots/a.png\".")
}

func sizeOf() schema { return schema{"type": "integer", "minimum": 0} }

func listTool() tool {
	entry := object([]string{"path", "type"}, schema{
		"path":           text("From " + dataDir + "."),
		"type":           schema{"type": "string", "enum": []string{"file", "directory", "other"}},
		"sizeInBytes":    sizeOf(),
		"lastModifiedAt": text("RFC 3339."),
		"contentType":    text("By the name's extension."),
		"uri":            text("The file as a resource."),
	})
	return tool{
		name: "listFiles", title: "List files", readOnly: true, idempotent: true,
		description: "List the files of an environment, which are in " + dataDir + ".",
		input: object(nil, schema{
			nameEnvironment: environmentID(),
			"path": text("The directory, from " + dataDir + "; left out, it is " +
				dataDir + "."),
			"recursive": flag("List what is in subdirectories, too."),
		}),
		output: object([]string{nameEnvironment, "files"}, schema{
			nameEnvironment: text("The environment."),
			"files":         schema{"type": "array", "items": entry},
			"truncated":     flag("There are more."),
		}),
		call: onFiles(true, (*call).list),
	}
}

func readTool() tool {
	number := func(least int, description string) schema {
		return schema{"type": "integer", "minimum": least, "description": description}
	}
	return tool{
		name: "readFile", title: "Read a file", readOnly: true, idempotent: true,
		description: fmt.Sprintf("Read a file of an environment: text as text, images as images, "+
			"all else in base64, at most %d bytes at a time.", maxRead),
		input: object([]string{"path"}, schema{
			nameEnvironment: environmentID(),
			"path":          pathOf(),
			"offset":        number(0, "Where to begin, in bytes."),
			"length":        number(1, "How many bytes to read."),
		}),
		output: object([]string{nameEnvironment, "path", "sizeInBytes", "encoding"}, schema{
			nameEnvironment: text("The environment."),
			"path":          text("The file."),
			"sizeInBytes":   sizeOf(),
			"encoding":      schema{"type": "string", "enum": []string{"utf-8", "base64"}},
			"truncated":     flag("There is more; read on with offset."),
		}),
		call: onFiles(true, (*call).readFile),
	}
}

func writeTool() tool {
	return tool{
		name: "writeFile", title: "Write a file", idempotent: true,
		description: "Write a file of an environment, whole. Directories on the way are made.",
		input: object([]string{"path", "content"}, schema{
			nameEnvironment: environmentID(),
			"path":          pathOf(),
			"content":       text("What the file is to hold."),
			"encoding": schema{
				"type": "string", "enum": []string{"utf-8", "base64"},
				"description": "How content is written; utf-8 if left out.",
			},
		}),
		output: object([]string{nameEnvironment, "path", "sizeInBytes"}, schema{
			nameEnvironment: text("The environment."),
			"path":          text("The file."),
			"sizeInBytes":   sizeOf(),
		}),
		call: onFiles(false, (*call).writeFile),
	}
}

// fileCall does what a tool for files does, in an environment that is there.
type fileCall func(
	*call, context.Context, *interpreter.Interpreter, sandpool.Identifier, fileArguments,
) (toolResult, error)

// onFiles returns the call of a tool for files. A tool that only looks makes no session.
func onFiles(
	looks bool,
	fn fileCall,
) func(*call, context.Context, json.RawMessage) (sandpool.Identifier, toolResult, error) {
	return func(
		c *call, ctx context.Context, raw json.RawMessage,
	) (sandpool.Identifier, toolResult, error) {
		var args fileArguments
		if err := arguments(raw, &args); err != nil {
			return "", toolResult{}, err
		}
		id, err := c.environment(args.EnvironmentID)
		if err != nil {
			return id, toolResult{}, err
		}
		if args.Path, err = agent.CleanPath(args.Path); err != nil {
			return id, toolResult{}, err
		}
		var r toolResult
		err = c.use(ctx, id, looks, func(in *interpreter.Interpreter) (err error) {
			r, err = fn(c, ctx, in, id, args)
			return err
		})
		return id, r, err
	}
}

// use calls fn with the interpreter of an environment, which must be there already if fn only
// looks.
func (c *call) use(
	ctx context.Context,
	id sandpool.Identifier,
	looks bool,
	fn func(*interpreter.Interpreter) error,
) error {
	if looks {
		if _, err := c.s.pools.Session(ctx, c.pool.ID, id); err != nil {
			return err
		}
	}
	lease, err := c.s.pools.Acquire(ctx, c.pool.ID, id)
	if err != nil {
		return err
	}
	defer lease.Release()
	return fn(c.s.within.Of(lease))
}

// listed is an entry of a list.
type listed struct {
	Path        string `json:"path"`
	Type        string `json:"type"`
	Size        int64  `json:"sizeInBytes"`
	Modified    string `json:"lastModifiedAt"`
	ContentType string `json:"contentType,omitempty"`
	URI         string `json:"uri,omitempty"`
}

func (c *call) list(
	ctx context.Context,
	in *interpreter.Interpreter,
	id sandpool.Identifier,
	args fileArguments,
) (toolResult, error) {
	files, release, err := in.List(ctx, args.Path, args.Recursive)
	defer release()
	if err != nil {
		return toolResult{}, err
	}
	more := len(files) > maxListed
	files = files[:min(len(files), maxListed)]
	list := make([]listed, 0, len(files))
	var b strings.Builder
	for _, f := range files {
		e := listed{
			Path:        f.Path,
			Type:        string(f.Type),
			Size:        f.Size,
			Modified:    f.ModTime.UTC().Format("2006-01-02T15:04:05Z"),
			ContentType: f.ContentType,
		}
		if f.Type == agent.File {
			e.URI = uriOf(id, f.Path)
			fmt.Fprintf(&b, "%s (%d bytes)\n", f.Path, f.Size)
		} else {
			fmt.Fprintf(&b, "%s (%s)\n", f.Path, f.Type)
		}
		list = append(list, e)
	}
	switch {
	case len(list) == 0:
		b.WriteString("(no files)")
	case more:
		fmt.Fprintf(&b, "(and more than these %d)", maxListed)
	}
	return toolResult{content: []map[string]any{textContent(b.String())},
		structured: map[string]any{nameEnvironment: id, "files": list, "truncated": more}}, nil
}

// piece is a part of a file, or all of it.
type piece struct {
	data []byte
	size int64 // of the file
	more bool
}

func readPiece(
	ctx context.Context,
	in *interpreter.Interpreter,
	path string,
	offset, length int64,
) (piece, error) {
	info, err := in.Stat(ctx, path)
	switch {
	case err != nil:
		return piece{}, err
	case info.Type != agent.File:
		return piece{}, sandpool.Errorf(sandpool.Invalid, "NotAFile", "path",
			"%q is no file; list it with listFiles.", path)
	case offset < 0 || length < 0:
		return piece{}, sandpool.Errorf(sandpool.Invalid, "InvalidArguments", "offset",
			"offset and length must not be negative.")
	case offset >= info.Size:
		return piece{size: info.Size}, nil
	}
	if length == 0 || length > maxRead {
		length = maxRead
	}
	content, err := in.Open(ctx, path, fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	if err != nil {
		return piece{}, err
	}
	defer content.Body.Close()
	data, err := io.ReadAll(io.LimitReader(content.Body, length))
	if err != nil {
		return piece{}, err
	}
	return piece{data: data, size: info.Size, more: offset+int64(len(data)) < info.Size}, nil
}

// asText returns the text that a piece is, and false if it is none. A piece may end within a
// character.
func (p piece) asText() (string, bool) {
	data := p.data
	for cut := 0; p.more && cut < utf8.UTFMax && !utf8.Valid(data); cut++ {
		data = data[:len(data)-1]
	}
	return string(data), utf8.Valid(data) && !strings.ContainsRune(string(data), 0)
}

func (c *call) readFile(
	ctx context.Context,
	in *interpreter.Interpreter,
	id sandpool.Identifier,
	args fileArguments,
) (toolResult, error) {
	p, err := readPiece(ctx, in, args.Path, args.Offset, args.Length)
	if err != nil {
		return toolResult{}, err
	}
	structured := map[string]any{
		nameEnvironment: id,
		"path":          args.Path,
		"sizeInBytes":   p.size,
		"encoding":      "utf-8",
		"truncated":     p.more,
	}
	kind := agent.ContentType(args.Path)
	if s, ok := p.asText(); ok {
		structured["truncated"] = p.more || len(s) < len(p.data)
		return toolResult{content: []map[string]any{textContent(s)}, structured: structured}, nil
	}
	structured["encoding"] = "base64"
	data := base64.StdEncoding.EncodeToString(p.data)
	if whole := args.Offset == 0 && !p.more; whole && strings.HasPrefix(kind, "image/") {
		return toolResult{
			content:    []map[string]any{imageContent(data, kind)},
			structured: structured,
		}, nil
	}
	return toolResult{content: []map[string]any{
		{
			"type": "resource",
			"resource": map[string]any{
				"uri":      uriOf(id, args.Path),
				"mimeType": kind,
				"blob":     data,
			},
		},
	}, structured: structured}, nil
}

func (c *call) writeFile(
	ctx context.Context,
	in *interpreter.Interpreter,
	id sandpool.Identifier,
	args fileArguments,
) (toolResult, error) {
	var content io.Reader
	switch {
	case args.Path == "":
		return toolResult{}, sandpool.Errorf(sandpool.Invalid, "InvalidArguments", "path",
			"The argument path is missing; it names the file.")
	case args.Content == nil:
		return toolResult{}, sandpool.Errorf(sandpool.Invalid, "InvalidArguments", "content",
			"The argument content is missing; it is what the file is to hold.")
	case args.Encoding == "", strings.EqualFold(args.Encoding, "utf-8"):
		content = strings.NewReader(*args.Content)
	case strings.EqualFold(args.Encoding, "base64"):
		data, err := base64.StdEncoding.DecodeString(*args.Content)
		if err != nil {
			return toolResult{}, sandpool.Errorf(sandpool.Invalid, "InvalidArguments", "content",
				"The argument content is not base64.")
		}
		content = strings.NewReader(string(data))
	default:
		return toolResult{}, sandpool.Errorf(sandpool.Invalid, "InvalidArguments", "encoding",
			"The encoding %.20q is unknown; use utf-8 or base64.", args.Encoding)
	}
	stored, err := in.Upload(ctx, args.Path, content, maxWrite)
	if err != nil {
		return toolResult{}, err
	}
	return toolResult{
		content: []map[string]any{
			textContent(
				fmt.Sprintf(
					"Wrote %d bytes to %s/%s in environment %s.",
					stored.Size,
					dataDir,
					stored.Path,
					id,
				),
			),
		},
		structured: map[string]any{
			nameEnvironment: id,
			"path":          stored.Path,
			"sizeInBytes":   stored.Size,
		},
	}, nil
}

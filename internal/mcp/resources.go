package mcp

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/interpreter"
	"github.com/sandpool/sandpool/internal/mcp/rpc"
)

// uriOf is a file as a resource.
func uriOf(id sandpool.Identifier, path string) string {
	parts := strings.Split(path, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return uriScheme + "://environments/" + url.PathEscape(
		string(id),
	) + "/files/" + strings.Join(
		parts,
		"/",
	)
}

// parseURI is the inverse of uriOf.
func parseURI(uri string) (id, path string, ok bool) {
	rest, ok := strings.CutPrefix(uri, uriScheme+"://environments/")
	if !ok {
		return "", "", false
	}
	name, file, ok := strings.Cut(rest, "/files/")
	id, err := url.PathUnescape(name)
	path, failed := url.PathUnescape(file)
	return id, path, ok && err == nil && failed == nil
}

// listTemplates answers resources/templates/list.
func (c *call) listTemplates(context.Context, json.RawMessage) (map[string]any, error) {
	return map[string]any{
		"resourceTemplates": []any{
			map[string]any{
				"name":        "files",
				"title":       "Files of an environment",
				"uriTemplate": uriPattern,
				"description": "A file below " + dataDir + " of an environment.",
			},
		},
	}, nil
}

// listResources answers resources/list: the files of the MCP session's own environment. Those of
// others are not listed, since their ids are secrets.
func (c *call) listResources(ctx context.Context, _ json.RawMessage) (map[string]any, error) {
	list := []any{}
	if c.session == "" {
		return map[string]any{"resources": list}, nil
	}
	id := c.session.environment()
	err := c.may(id)
	if err == nil {
		err = c.use(ctx, id, true, func(in *interpreter.Interpreter) error {
			files, release, err := in.List(ctx, "", true)
			defer release()
			for _, f := range files[:min(len(files), maxListed)] {
				if f.Type == agent.File {
					list = append(
						list,
						map[string]any{
							"uri":      uriOf(id, f.Path),
							"name":     f.Path,
							"mimeType": f.ContentType,
							"size":     f.Size,
						},
					)
				}
			}
			return err
		})
	}
	switch sandpool.ClassOf(err) {
	case sandpool.NotFound, sandpool.Ended, sandpool.Denied:
		err = nil // there are none
	}
	return map[string]any{"resources": list}, c.plain(err)
}

// readResource answers resources/read.
func (c *call) readResource(ctx context.Context, params json.RawMessage) (map[string]any, error) {
	var p struct {
		URI string `json:"uri"`
	}
	if json.Unmarshal(params, &p) != nil || p.URI == "" {
		return nil, rpc.Errorf(rpc.CodeParams, "The params of resources/read are a uri.")
	}
	named, path, ok := parseURI(p.URI)
	if !ok || named == "" {
		return nil, c.noResource(p.URI)
	}
	id, err := c.environment(named)
	if err == nil {
		path, err = agent.CleanPath(path)
	}
	var got piece
	if err == nil {
		err = c.use(ctx, id, true, func(in *interpreter.Interpreter) (err error) {
			got, err = readPiece(ctx, in, path, 0, 0)
			return err
		})
	}
	switch class := sandpool.ClassOf(err); {
	case err != nil && (class == sandpool.NotFound || class == sandpool.Invalid ||
		class == sandpool.Ended):
		return nil, c.noResource(p.URI)
	case err != nil:
		return nil, c.plain(err)
	case got.more:
		return nil, rpc.Errorf(rpc.CodeInternal,
			"The file has %d bytes, of at most %d as a resource; read it in parts with readFile.",
			got.size, maxRead)
	}
	content := map[string]any{"uri": p.URI, "mimeType": agent.ContentType(path)}
	if s, ok := got.asText(); ok {
		content["text"] = s
	} else {
		content["blob"] = base64.StdEncoding.EncodeToString(got.data)
	}
	return map[string]any{"contents": []any{content}}, nil
}

// noResource is the error of a resource that is not there. Its code has changed.
func (c *call) noResource(uri string) error {
	e := rpc.Errorf(rpc.CodeResource, "There is no resource %.200q. Resources are files: %s.", uri,
		uriPattern)
	if isModern(c.version) {
		e.Code = rpc.CodeParams
	}
	e.Data = map[string]any{"uri": uri[:min(len(uri), rpc.MaxMessage)]}
	return e
}

// plain is explain where there is no tool whose result could say what went wrong.
func (c *call) plain(err error) error {
	if err == nil {
		return nil
	}
	r, err := c.explain("", err)
	var bad *rpc.Error
	if err != nil && !errors.As(err, &bad) {
		return err
	}
	if bad != nil {
		return bad
	}
	s, _ := r.content[0]["text"].(string)
	return rpc.Errorf(rpc.CodeInternal, "%s", s)
}

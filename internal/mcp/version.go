package mcp

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/mcp/rpc"
)

// The versions of the protocol, which are dates and compare as text.
const (
	version20250326 = "2025-03-26"
	version20250618 = "2025-06-18"
	version20251125 = "2025-11-25"
	version20260728 = "2026-07-28"
)

// Headers and members of _meta in which a request of 2026-07-28 says what "initialize" said before.
const (
	versionHeader    = "Mcp-Protocol-Version"
	methodHeader     = "Mcp-Method"
	nameHeader       = "Mcp-Name"
	metaVersion      = "io.modelcontextprotocol/protocolVersion"
	metaCapabilities = "io.modelcontextprotocol/clientCapabilities"
	metaServer       = "io.modelcontextprotocol/serverInfo"
)

// versions are those that are served, the newest first.
func versions() []string {
	return []string{version20260728, version20251125, version20250618, version20250326}
}

func served(version string) bool { return slices.Contains(versions(), version) }

// isModern reports whether requests of a version are those that need no "initialize".
func isModern(version string) bool { return version >= version20260728 }

func unknownVersion(version string) *rpc.Error {
	e := rpc.BadRequest(rpc.CodeVersion, "The version %.40q of the protocol is not served.",
		version)
	e.Data = map[string]any{"supported": versions(), "requested": version}
	return e
}

// meta is what is read of a request's _meta.
type meta struct {
	Meta map[string]json.RawMessage `json:"_meta"`
	Name string                     `json:"name"`
	URI  string                     `json:"uri"`
}

// checkVersion reports whether a request is of 2026-07-28 or newer, and whether its headers and
// its _meta are as that wants them. What lies between us and the client routes by the headers,
// so they must not say anything else than the message.
func (c *call) checkVersion(m rpc.Message) (modern bool, bad *rpc.Error) {
	var p meta
	if m.Params != nil && json.Unmarshal(m.Params, &p) != nil {
		return isModern(c.version), rpc.BadRequest(rpc.CodeParams,
			"The request's params are not what the protocol has there.")
	}
	var version string
	_ = json.Unmarshal(p.Meta[metaVersion], &version) // of another type it is none
	if !isModern(c.version) && !isModern(version) {
		return false, nil
	}
	switch {
	case version == "":
		return true, rpc.BadRequest(rpc.CodeParams, "The request's _meta has no %s.", metaVersion)
	case c.version != version:
		return true, rpc.BadRequest(rpc.CodeHeader,
			"The header %s is %.40q and the request's _meta has %.40q; send the same.",
			versionHeader, c.version, version)
	case !served(version):
		return true, unknownVersion(version)
	case len(p.Meta[metaCapabilities]) == 0 || p.Meta[metaCapabilities][0] != '{':
		return true, rpc.BadRequest(rpc.CodeParams, "The request's _meta has no %s.",
			metaCapabilities)
	}
	if got := strings.TrimSpace(c.r.Header.Get(methodHeader)); got != m.Method {
		return true, rpc.BadRequest(rpc.CodeHeader,
			"The header %s is %.80q and the message's method %.80q; send the same.", methodHeader,
			got, m.Method)
	}
	want := p.Name
	switch m.Method {
	case methodCall, "prompts/get":
	case methodRead:
		want = p.URI
	default:
		return true, nil
	}
	if got := plainHeader(c.r.Header.Get(nameHeader)); got != want {
		return true, rpc.BadRequest(rpc.CodeHeader,
			"The header %s is %.80q and the message has %.80q; send the same.", nameHeader, got,
			want)
	}
	return true, nil
}

// plainHeader reads a header's value, which is in base64 if it is not plain ASCII.
func plainHeader(s string) string {
	s = strings.TrimSpace(s)
	inner, ok := strings.CutPrefix(s, "=?base64?")
	if !ok {
		return s
	}
	text, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(inner, "?="))
	if err != nil {
		return s
	}
	return string(text)
}

// info is what the server says of itself.
func (s *Server) info() map[string]any {
	return map[string]any{
		"name":    "sandpool",
		"title":   "sandpool code sandboxes",
		"version": s.o.Version,
	}
}

// capabilities are what the server can. Azure's endpoint has call and list, which it also names.
// The files of a container are its own, so custom pools have no resources.
func (c *call) capabilities() map[string]any {
	all := map[string]any{"tools": map[string]any{"call": true, "list": true}}
	if !c.isCustom() {
		all["resources"] = map[string]any{}
	}
	return all
}

func (c *call) isCustom() bool { return c.pool.Spec.Kind == sandpool.CustomContainer }

// instructions are what clients may tell their models.
func (c *call) instructions() string {
	if c.isCustom() {
		return containerInstructions
	}
	return codeInstructions
}

const codeInstructions = "Run code in isolated sandboxes. Each environment keeps its variables " +
	"and files between calls. " +
	"Its id is yours to choose (4 to 128 characters), or leave environmentId out to use this " +
	"conversation's own. " +
	"Files are in /mnt/data. There is no network unless the pool's owner has allowed it."

// initialize begins an MCP session. A request without params is of the first version.
func (c *call) initialize(_ context.Context, params json.RawMessage) (map[string]any, error) {
	var p struct {
		ProtocolVersion string `json:"protocolVersion"`
	}
	if params != nil && json.Unmarshal(params, &p) != nil {
		return nil, rpc.Errorf(rpc.CodeParams, "protocolVersion must be a string, such as %q.",
			version20251125)
	}
	version := p.ProtocolVersion
	switch {
	case params == nil:
		version = version20250326
	case !served(version) || isModern(version):
		version = version20251125
	}
	_, id := c.newSession()
	c.w.Header().Set(sessionHeader, id)
	return map[string]any{
		"protocolVersion": version,
		"capabilities":    c.capabilities(),
		"serverInfo":      c.s.info(),
		"instructions":    c.instructions(),
	}, nil
}

// discover says what "initialize" does, and begins nothing.
func (c *call) discover(context.Context, json.RawMessage) (map[string]any, error) {
	return map[string]any{
		"supportedVersions": versions(),
		"capabilities":      c.capabilities(),
		"instructions":      c.instructions(),
	}, nil
}

package mcp

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/mcp/rpc"
)

// tool is one that a model may call.
type tool struct {
	name string
	// others are further names, which clients of Azure's endpoint know. They are not listed.
	others             []string
	title, description string
	input, output      schema
	// readOnly and idempotent are hints to clients, which ask people before they call others.
	readOnly, idempotent, destructive bool
	// only is the kinds of pools whose lists have it; nil means that all have.
	only []sandpool.ContainerType
	// call does it. ctx ends with the caller's, or when it is cancelled.
	call toolCall
}

// toolCall returns which environment it has used, as far as that is known, and what there is to
// say.
type toolCall func(
	c *call, ctx context.Context, arguments json.RawMessage,
) (sandpool.Identifier, toolResult, error)

// schema is a JSON Schema.
type schema = map[string]any

// properties returns the schema of an object.
func object(required []string, properties schema) schema {
	s := schema{"type": "object", "properties": properties}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

func text(description string) schema { return schema{"type": "string", "description": description} }

func flag(description string) schema {
	return schema{"type": "boolean", "description": description}
}

// environmentID is the schema of the argument that names an environment. The rule is
// sandpool.ParseIdentifier's: models read it, and invent "1" without it.
func environmentID() schema {
	return schema{
		"type":      "string",
		"minLength": sandpool.MinIdentifier,
		"maxLength": sandpool.MaxIdentifier,
		"pattern":   `^[!-\[\]-~]{4,128}$`,
		"description": "The environment to use: an id that a launch tool or an earlier call has " +
			"returned, or one of your own, " +
			"4 to 128 printable ASCII characters without spaces and backslashes, such as " +
			"\"task-7f3a\" " +
			"(\"1\" is too short). " +
			"An id that is not known yet makes a new environment. Left out, it is this " +
			"conversation's " +
			"own one, or a new one, whose id the result has.",
	}
}

func timeout() schema {
	return schema{
		"type":    "integer",
		"minimum": 1,
		"description": "Seconds that it may take; left out, or more than the server allows, it is as " +
			"long as that allows.",
	}
}

const (
	nameEnvironment = "environmentId"
	nameTimeout     = "timeoutInSeconds"
)

// codeTools is the table of the tools of code pools, in the order in which they are listed. Those
// of languages come from theirs, so that a language adds an entry there.
func codeTools() []tool {
	var all []tool
	for _, l := range languages() {
		all = append(all, l.launch(), l.run())
	}
	return append(all, fileTools()...)
}

// tools are those of the call's pool.
func (c *call) tools() []tool {
	if c.isCustom() {
		return c.s.custom
	}
	return c.s.code
}

// find returns the tool of a name.
func (c *call) find(name string) (tool, bool) {
	all := c.tools()
	at := slices.IndexFunc(
		all,
		func(t tool) bool { return t.name == name || slices.Contains(t.others, name) },
	)
	if at < 0 {
		return tool{}, false
	}
	return all[at], true
}

// listTools answers tools/list, in one page.
func (c *call) listTools(context.Context, json.RawMessage) (map[string]any, error) {
	list := make([]map[string]any, 0, len(c.tools()))
	for _, t := range c.tools() {
		if t.only != nil && !slices.Contains(t.only, c.pool.Spec.Kind) {
			continue
		}
		list = append(
			list,
			map[string]any{
				"name":         t.name,
				"title":        t.title,
				"description":  t.description,
				"inputSchema":  t.input,
				"outputSchema": t.output,
				"annotations": map[string]any{
					"title":           t.title,
					"readOnlyHint":    t.readOnly,
					"idempotentHint":  t.idempotent,
					"destructiveHint": t.destructive,
					"openWorldHint":   false,
				},
			},
		)
	}
	return map[string]any{"tools": list}, nil
}

// callTool answers tools/call.
func (c *call) callTool(ctx context.Context, params json.RawMessage) (map[string]any, error) {
	var p struct {
		Name      string          `json:"name"`
		Arguments json.RawMessage `json:"arguments"`
		Meta      struct {
			ProgressToken json.RawMessage `json:"progressToken"`
		} `json:"_meta"`
	}
	if json.Unmarshal(params, &p) != nil {
		return nil, rpc.Errorf(rpc.CodeParams,
			"The params of tools/call are a name and an object of arguments.")
	}
	t, ok := c.find(p.Name)
	if !ok {
		return nil, rpc.Errorf(rpc.CodeParams,
			"Unknown tool: %.80q. tools/list says which there are.", p.Name)
	}
	if p.Arguments != nil && p.Arguments[0] != '{' && p.Arguments[0] != 'n' {
		return nil, rpc.Errorf(rpc.CodeParams, "The arguments of %s must be an object.", t.name)
	}
	if err := c.wantStream(p.Meta.ProgressToken); err != nil {
		return nil, err
	}
	id, result, err := t.call(c, ctx, p.Arguments)
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errCancelled) {
			return nil, rpc.Errorf(rpc.CodeInternal, "%s", errCancelled.Error())
		}
		if result, err = c.explain(id, err); err != nil {
			return nil, err
		}
	}
	return result.wire(), nil
}

// arguments reads the arguments of a tool. A number or a truth value may be text: models mix
// them up.
func arguments(raw json.RawMessage, into any) error {
	if raw == nil || raw[0] == 'n' {
		return nil
	}
	err := arm.Unmarshal(raw, into)
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind):
		return sandpool.Errorf(sandpool.Invalid, "InvalidArguments", kind.Field,
			"The argument %s is a JSON %.40s, which it does not take; see the tool's schema.",
			kind.Field, kind.Value)
	case err != nil:
		return sandpool.Errorf(sandpool.Invalid, "InvalidArguments", "",
			"The arguments are not what the tool takes; see its schema.")
	}
	return nil
}

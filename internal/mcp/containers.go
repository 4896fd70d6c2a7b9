package mcp

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/gateway/wire"
	"github.com/sandpool/sandpool/internal/mcp/access"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// containerInstructions is what clients may tell their models of a custom pool.
const containerInstructions = "Use isolated containers of one image. Each environment is a " +
	"container of its own, which starts when it is first used and keeps its state between calls. " +
	"Its id is yours to choose (4 to 128 characters), or leave environmentId out to use this " +
	"conversation's own. Talk to the program in it with sendHttpRequest."

// Bounds of one call.
const (
	maxSessions = 300
	// logTail is what a call shows of a log, in bytes, each line of which counts lineCost more.
	// logPage is what is read of a log at a time, and logPages how often: a program may write
	// faster than it is read.
	logTail  = 64 << 10
	lineCost = 64
	logPage  = 2 << 20
	logPages = 32
)

// containerTools is the table of the tools of custom pools, in the order in which they are listed.
func containerTools() []tool {
	return []tool{
		launchTool("launchEnvironment", "container"), requestTool(), getTool(), listSessionsTool(),
		logsTool(), stopTool(),
	}
}

// onSession returns the call of a tool that looks at one session, and makes none.
func onSession(
	fn func(*call, context.Context, sandpool.Identifier, sessionArguments) (toolResult, error),
) toolCall {
	return func(c *call, ctx context.Context, raw json.RawMessage) (
		sandpool.Identifier, toolResult, error,
	) {
		var args sessionArguments
		if err := arguments(raw, &args); err != nil {
			return "", toolResult{}, err
		}
		id, err := c.environment(args.EnvironmentID)
		if err != nil {
			return id, toolResult{}, err
		}
		r, err := fn(c, ctx, id, args)
		return id, r, err
	}
}

// sessionArguments are those of all tools for sessions together.
type sessionArguments struct {
	EnvironmentID string `json:"environmentId"`
	After         string `json:"after"`
}

// sessionInfo is what the tools say of a session.
type sessionInfo struct {
	EnvironmentID string `json:"environmentId"`
	Created       string `json:"createdAt"`
	Used          string `json:"lastAccessedAt"`
	Expires       string `json:"expiresAt"`
}

func infoOf(s sandpool.Session) sessionInfo {
	return sessionInfo{EnvironmentID: string(s.Identifier), Created: wire.Stamp(s.CreatedAt),
		Used: wire.Stamp(s.LastUsedAt), Expires: wire.Stamp(s.ExpiresAt)}
}

func infoSchema() schema {
	return object([]string{nameEnvironment, "createdAt", "lastAccessedAt", "expiresAt"}, schema{
		nameEnvironment:  text("The id of the environment."),
		"createdAt":      text("RFC 3339."),
		"lastAccessedAt": text("RFC 3339."),
		"expiresAt":      text("When it ends if nothing uses it, RFC 3339."),
	})
}

func getTool() tool {
	return tool{
		name: "getEnvironment", title: "Look at an environment", readOnly: true, idempotent: true,
		description: "Say since when an environment is there, and when it ends if nothing uses it.",
		input:       object(nil, schema{nameEnvironment: environmentID()}),
		output:      infoSchema(),
		call:        onSession((*call).getSession),
	}
}

func (c *call) getSession(ctx context.Context, id sandpool.Identifier, _ sessionArguments) (
	toolResult, error,
) {
	s, err := c.s.pools.Session(ctx, c.pool.ID, id)
	if err != nil {
		return toolResult{}, err
	}
	info := infoOf(s)
	return toolResult{content: []map[string]any{textContent(fmt.Sprintf(
		"Environment %s is there since %s and ends at %s if nothing uses it.", id, info.Created,
		info.Expires))}, structured: info}, nil
}

func listSessionsTool() tool {
	return tool{
		name: "listEnvironments", title: "List environments", readOnly: true, idempotent: true,
		description: "List the environments that are there and that this caller may see. With " +
			"the key of the pool that is this conversation's own alone.",
		input: object(nil, schema{}),
		output: object([]string{"environments"}, schema{
			"environments": schema{"type": "array", "items": infoSchema()},
			"truncated":    flag("There are more."),
		}),
		call: func(c *call, ctx context.Context, _ json.RawMessage) (
			sandpool.Identifier, toolResult, error,
		) {
			seen, more, err := c.sessions(ctx)
			if err != nil {
				return "", toolResult{}, err
			}
			list := make([]sessionInfo, len(seen))
			var b strings.Builder
			for i, s := range seen {
				list[i] = infoOf(s)
				fmt.Fprintf(&b, "%s (ends at %s)\n", s.Identifier, list[i].Expires)
			}
			switch {
			case len(list) == 0:
				b.WriteString("(no environments)")
			case more:
				fmt.Fprintf(&b, "(and more than these %d)", len(list))
			}
			return "", toolResult{content: []map[string]any{textContent(b.String())},
				structured: map[string]any{"environments": list, "truncated": more}}, nil
		},
	}
}

// sessions are those that the caller may see, and whether there are more than it is told. Many
// conversations share a pool's key, whose environments nothing but their ids keeps apart; so a key
// shows those of its conversation.
func (c *call) sessions(ctx context.Context) (seen []sandpool.Session, more bool, err error) {
	if access.IsKey(c.who) {
		if c.session == "" {
			return nil, false, nil
		}
		s, err := c.s.pools.Session(ctx, c.pool.ID, c.session.environment())
		if sandpool.ClassOf(err) == sandpool.NotFound {
			return nil, false, nil
		}
		return []sandpool.Session{s}, false, err
	}
	scope := c.pool.ID.Scope()
	for from, more := 0, true; more && len(seen) <= maxSessions; from += maxSessions {
		var page []sandpool.Session
		page, more, err = c.s.containers.Sessions(ctx, c.pool.ID, from, maxSessions)
		if err != nil {
			return nil, false, err
		}
		for _, s := range page {
			if auth.Require(ctx, auth.ReadSessions, scope.Session(s.Identifier)) == nil {
				seen = append(seen, s)
			}
		}
	}
	return seen[:min(len(seen), maxSessions)], len(seen) > maxSessions, nil
}

func stopTool() tool {
	return tool{
		name: "stopEnvironment", title: "Stop an environment", destructive: true,
		description: "End an environment with all that is in it. The next call that uses its id " +
			"finds a fresh one.",
		input: object(nil, schema{nameEnvironment: environmentID()}),
		output: object([]string{nameEnvironment}, schema{
			nameEnvironment: text("The id of the environment.")}),
		call: onSession(func(c *call, ctx context.Context, id sandpool.Identifier,
			_ sessionArguments) (toolResult, error) {
			if err := c.s.pools.StopSession(ctx, c.pool.ID, id); err != nil {
				return toolResult{}, err
			}
			return toolResult{
				content: []map[string]any{
					textContent("Environment " + string(id) + " is stopped."),
				},
				structured: map[string]any{nameEnvironment: id},
			}, nil
		}),
	}
}

func logsTool() tool {
	line := object([]string{"time", "stream", "text"}, schema{
		"time":   text("RFC 3339."),
		"stream": schema{"type": "string", "enum": []string{"stdout", "stderr"}},
		"text":   text("The line, or a part of a long one."),
	})
	return tool{
		name: "readLogs", title: "Read logs", readOnly: true, idempotent: true,
		description: fmt.Sprintf("Read what the program in an environment has written to its "+
			"standard output and standard error: the last %d bytes, or what came after an earlier "+
			"call. The logs of an environment that has ended are kept for a while.", logTail),
		input: object(nil, schema{
			nameEnvironment: environmentID(),
			"after":         text("What an earlier call has returned as next; left out, it is the end."),
		}),
		output: object([]string{nameEnvironment, "lines", "next"}, schema{
			nameEnvironment: text("The environment."),
			"lines":         schema{"type": "array", "items": line},
			"next":          text("Where to read on, as after."),
			"missed":        flag("Earlier lines are left out, or not kept any more."),
		}),
		call: onSession((*call).readLogs),
	}
}

// logLine is a line of a log as the tool shows it.
type logLine struct {
	Time   string `json:"time"`
	Stream string `json:"stream"`
	Text   string `json:"text"`
}

func (c *call) readLogs(ctx context.Context, id sandpool.Identifier, args sessionArguments) (
	toolResult, error,
) {
	of, at, err := parsePosition(args.After)
	if err != nil {
		return toolResult{}, err
	}
	lines, size, missed := []logLine{}, 0, false
	for range logPages {
		page, err := c.s.containers.SessionLog(ctx, c.pool.ID, id, of,
			sandbox.LogQuery{From: at, Limit: logPage})
		if err != nil {
			return toolResult{}, err
		}
		missed = missed || page.Start > at
		of, at = page.Sandbox, page.Next
		for r := range page.Records() {
			l := logLine{r.Time, r.Stream, strings.ToValidUTF8(string(r.Text), "\ufffd")}
			lines, size = append(lines, l), size+len(l.Text)+lineCost
			for size > logTail && len(lines) > 1 {
				size -= len(lines[0].Text) + lineCost
				lines, missed = lines[1:], true
			}
		}
		if len(page.Lines) == 0 {
			break
		}
	}
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.Text + "\n")
	}
	if len(lines) == 0 {
		b.WriteString("(nothing)")
	}
	return toolResult{content: []map[string]any{textContent(b.String())},
		structured: map[string]any{nameEnvironment: id, "lines": lines, "missed": missed,
			"next": string(of) + "." + strconv.FormatInt(at, 10)}}, nil
}

// parsePosition reads where in a log to read on.
func parsePosition(after string) (sandpool.SandboxID, int64, error) {
	if after == "" {
		return "", 0, nil
	}
	of, at, ok := strings.Cut(after, ".")
	n, err := strconv.ParseInt(at, 10, 64)
	if !ok || of == "" || err != nil || n < 0 {
		return "", 0, invalidArgument("after",
			"The argument after is %.60q; use next of an earlier call, or leave it out.", after)
	}
	return sandpool.SandboxID(of), n, nil
}

package mcp

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/mcp/rpc"
)

// post answers a message, or a batch of them.
func (c *call) post() error {
	share := c.s.bodies.Share(c.holder(""))
	defer share.Release()
	data, err := c.read(share)
	if err != nil {
		return err
	}
	c.sent = share.Release
	all, batch, bad := rpc.Decode(data)
	if bad == nil {
		bad = c.admit(batch)
	}
	if bad != nil {
		var id json.RawMessage
		if len(all) == 1 && !batch {
			id = all[0].ID
		}
		return c.reply(bad.Status, rpc.Response{ID: id, Error: bad})
	}
	defer c.releaseAll()
	if c.batch = batch; !batch {
		return c.one(all[0])
	}
	answers := []rpc.Response{}
	for _, m := range all {
		if r, wanted, err := c.handle(m); err != nil {
			return err
		} else if wanted {
			answers = append(answers, r)
		}
	}
	if len(answers) == 0 {
		c.w.WriteHeader(http.StatusAccepted)
		return nil
	}
	return c.reply(http.StatusOK, answers)
}

// one answers a single message.
func (c *call) one(m rpc.Message) error {
	r, wanted, err := c.handle(m)
	switch {
	case err != nil:
		return err
	case !wanted:
		c.w.WriteHeader(http.StatusAccepted)
		return nil
	case c.stream != nil:
		return c.stream.last(r)
	case r.Error != nil:
		return c.reply(r.Error.Status, r)
	}
	return c.reply(http.StatusOK, r)
}

// admit checks what the headers say, of which every message is a part.
func (c *call) admit(batch bool) *rpc.Error {
	if bad := c.openSession(); bad != nil {
		return bad
	}
	c.version = strings.TrimSpace(c.r.Header.Get(versionHeader))
	if c.version != "" && !served(c.version) && !isModern(c.version) {
		return unknownVersion(c.version)
	}
	if batch && c.version > version20250326 {
		return rpc.BadRequest(rpc.CodeRequest, "Batches are of version %s; send one message.",
			version20250326)
	}
	return nil
}

// handle answers a message; wanted is false for one that gets no answer.
func (c *call) handle(m rpc.Message) (r rpc.Response, wanted bool, err error) {
	if !m.IsCall() {
		if m.Method == methodCancelled && c.session != "" {
			var p struct {
				RequestID json.RawMessage `json:"requestId"`
			}
			if json.Unmarshal(m.Params, &p) == nil {
				c.s.running.cancel(c.session, string(p.RequestID))
			}
		}
		return rpc.Response{}, false, nil
	}
	r.ID = m.ID
	result, err := c.answer(m)
	var bad *rpc.Error
	switch {
	case err == nil:
		r.Result = result
	case errors.As(err, &bad):
		r.Error = bad
	default:
		return r, true, err
	}
	return r, true, nil
}

// answer calls the method of a request.
func (c *call) answer(m rpc.Message) (any, error) {
	modern, bad := c.checkVersion(m)
	if bad != nil {
		return nil, bad
	}
	method, ok := methods()[m.Method]
	if !ok || modern && method.old || !modern && method.modern || method.files && c.isCustom() {
		e := rpc.Errorf(rpc.CodeMethod, "The method %.80q is not served.", m.Method)
		if modern {
			e.Status = http.StatusNotFound
		}
		return nil, e
	}
	ctx, done := c.s.running.begin(c.r.Context(), c.session, string(m.ID))
	defer done()
	result, err := method.serve(c, ctx, m.Params)
	if err != nil {
		var bad *rpc.Error
		if modern && errors.As(err, &bad) && bad.Code == rpc.CodeParams {
			bad.Status = http.StatusBadRequest
		}
		return nil, err
	}
	if modern {
		result["resultType"] = "complete"
		if method.cache > 0 {
			result["ttlMs"], result["cacheScope"] = method.cache.Milliseconds(), "private"
		}
		result["_meta"] = map[string]any{metaServer: c.s.info()}
	}
	return result, nil
}

// The names of methods that more than the table of them speaks of.
const (
	methodInitialize = "initialize"
	methodCancelled  = "notifications/cancelled"
	methodDiscover   = "server/discover"
	methodCall       = "tools/call"
	methodRead       = "resources/read"
)

// method is what a request may ask for.
type method struct {
	serve func(c *call, ctx context.Context, params json.RawMessage) (map[string]any, error)
	// old says that it is gone since 2026-07-28, modern that it came then, and files that it is
	// about those of an environment, which custom pools do not have.
	old, modern, files bool
	// cache is for how long clients may keep the answer; it is there where the protocol wants one.
	cache time.Duration
}

// What clients may keep: what a server's version says, and what sessions hold.
const (
	cacheLong  = 5 * time.Minute
	cacheShort = time.Millisecond
)

func methods() map[string]method {
	return map[string]method{
		methodInitialize:           {serve: (*call).initialize, old: true},
		"ping":                     {serve: (*call).ping, old: true},
		methodDiscover:             {serve: (*call).discover, modern: true, cache: cacheLong},
		"tools/list":               {serve: (*call).listTools, cache: cacheLong},
		methodCall:                 {serve: (*call).callTool},
		"resources/list":           {serve: (*call).listResources, files: true, cache: cacheShort},
		"resources/templates/list": {serve: (*call).listTemplates, files: true, cache: cacheLong},
		methodRead:                 {serve: (*call).readResource, files: true, cache: cacheShort},
	}
}

func (c *call) ping(context.Context, json.RawMessage) (map[string]any, error) {
	return map[string]any{}, nil
}

// reply writes an answer in JSON, which counts against its caller's part while it is large.
func (c *call) reply(status int, v any) error {
	if status == 0 {
		status = http.StatusOK
	}
	b, err := arm.Encode(stamped(v))
	if err != nil {
		return err
	}
	c.releaseAll()
	if b.Size() <= largeAnswer {
		return b.Send(c.w, status, nil)
	}
	share, err := c.room(b.Size())
	if err != nil {
		return err
	}
	defer share.Release()
	return b.Send(c.w, status, func() { share.Keep(b.Size()) })
}

// stamped is v with the version of JSON-RPC, and with an id, which is null if it is not known.
func stamped(v any) any {
	switch v := v.(type) {
	case rpc.Response:
		v.JSONRPC = rpc.Version
		return v
	case []rpc.Response:
		for i := range v {
			v[i].JSONRPC = rpc.Version
		}
	}
	return v
}

func (c *call) releaseAll() {
	for _, release := range c.release {
		release()
	}
	c.release = nil
}

// explain is what an error of a tool is to the model: the result's text, or an error of JSON-RPC.
func (c *call) explain(id sandpool.Identifier, err error) (toolResult, error) {
	var bad *rpc.Error
	if errors.As(err, &bad) || c.r.Context().Err() != nil {
		return toolResult{}, err
	}
	var e *sandpool.Error
	switch {
	case !errors.As(err, &e), e.Class == sandpool.Internal:
		trace := arm.TraceID(c.r.Context())
		c.s.log.ErrorContext(c.r.Context(), "tool", "error", err, "trace", trace)
		return toolResult{}, rpc.Errorf(rpc.CodeInternal,
			"The server met an error. Its log says more under trace id %s.", trace)
	case e.Class == sandpool.Ended, e.Code == codeNoSession:
		// Clients launch another environment when they read these words.
		return toolResult{}, rpc.Errorf(rpc.CodeParams, "environment %q not found: %s", id,
			e.Message)
	case e.Code != "":
		return failed(e.Code + ": " + e.Message), nil
	}
	return failed(e.Message), nil
}

// codeNoSession is the code of a session that is not there.
const codeNoSession = "SessionWithIdentifierNotFound"

package describe

import (
	"net/http"
	"reflect"
	"strconv"
)

// operation is one method of one path.
type operation struct {
	id, key, summary string // the key is "METHOD /path"
	parameters       []string
	body             object // by media type
	answers          object // by status
	open             bool   // it needs no token
	schemas          *schemas
}

// query names the query parameters, which the table of parameters describes.
func (o *operation) query(names ...string) *operation {
	o.parameters = append(o.parameters, names...)
	return o
}

// public says that the operation needs no token.
func (o *operation) public() *operation {
	o.open = true
	return o
}

// takes says what the body is in JSON: a value of the type of v.
func (o *operation) takes(v any) *operation {
	return o.takesAs("application/json", o.schemas.of(reflect.TypeOf(v)))
}

// takesPart says that the body may have any part of a value of the type of v.
func (o *operation) takesPart(v any) *operation {
	return o.takesAs("application/json", o.schemas.part(reflect.TypeOf(v)))
}

func (o *operation) takesAs(media string, schema object) *operation {
	if o.body == nil {
		o.body = object{}
	}
	o.body[media] = object{"schema": schema}
	return o
}

// gives says that an answer is in JSON: a value of the type of v.
func (o *operation) gives(status int, v any) *operation {
	return o.givesAs(status, "application/json", o.schemas.of(reflect.TypeOf(v)))
}

// givesOne says that an answer is one of several.
func (o *operation) givesOne(status int, vs ...any) *operation {
	var of []object
	for _, v := range vs {
		of = append(of, o.schemas.of(reflect.TypeOf(v)))
	}
	return o.givesAs(status, "application/json", object{"anyOf": of})
}

// streams says that an answer is events, in lines of JSON or as server-sent events.
func (o *operation) streams(v any) *operation {
	schema := o.schemas.of(reflect.TypeOf(v))
	return o.givesAs(http.StatusOK, "application/x-ndjson", schema).
		givesAs(http.StatusOK, "text/event-stream", schema)
}

func (o *operation) givesAs(status int, media string, schema object) *operation {
	a := o.answer(status)
	content, ok := a["content"].(object)
	if !ok {
		content = object{}
		a["content"] = content
	}
	content[media] = object{"schema": schema}
	return o
}

// is says that there are answers without a body.
func (o *operation) is(statuses ...int) *operation {
	for _, status := range statuses {
		o.answer(status)
	}
	return o
}

// fails says which errors are the operation's own.
func (o *operation) fails(statuses ...int) *operation {
	for _, status := range statuses {
		o.answers[strconv.Itoa(status)] = object{"$ref": "#/components/responses/Error"}
	}
	return o
}

func (o *operation) answer(status int) object {
	key := strconv.Itoa(status)
	if a, ok := o.answers[key].(object); ok {
		return a
	}
	a := object{"description": http.StatusText(status)}
	o.answers[key] = a
	return a
}

package gateway

import (
	"encoding/json"
	"strings"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
)

// noValue is the result of code that leaves none: the empty string, which
// clients that index the result need.
const noValue = `""`

// valueOf returns the result of an execution as the service shows it: an image
// if there is one, else the text of the last expression's value, as JSON if it
// happens to be JSON and as a string if not.
func valueOf(res agent.ExecuteResult, images []api.Image) json.RawMessage {
	if len(images) > 0 {
		return encode(images[0])
	}
	if !res.HasValue {
		return json.RawMessage(noValue)
	}
	return textValue(res.Text)
}

// textValue turns the printed form of a value into JSON. None is what Python
// prints for null; every other form is the same in both or is no JSON at all.
// Numbers keep all their digits, because the text itself is the JSON.
func textValue(text string) json.RawMessage {
	trimmed := strings.TrimSpace(text)
	if trimmed == "None" {
		return json.RawMessage("null")
	}
	if json.Valid([]byte(trimmed)) {
		return json.RawMessage(trimmed)
	}
	return encode(text)
}

// encode marshals what cannot fail to marshal.
func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("gateway: encode a plain value: " + err.Error())
	}
	return b
}

package arm

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// DecodeJSON reads the body of r, at most limit bytes, into into. Names are
// matched without regard to case and unknown ones are ignored, as Azure
// Resource Manager does it; numbers and truth values may be text, see Unmarshal; a value of the
// wrong type is an error that names the field's path. Only the charset of the content type is
// looked at: no client is known that sends anything but JSON here, and several send it under
// another name. The body must arrive within bodyTime.
func DecodeJSON(w http.ResponseWriter, r *http.Request, limit int64, into any) error {
	_, err := decodeJSON(w, r, limit, into)
	return err
}

// DecodeKnown is DecodeJSON, and returns the paths of the members that it ignored; see Unknown.
func DecodeKnown(w http.ResponseWriter, r *http.Request, limit int64, into any) ([]string, error) {
	data, err := decodeJSON(w, r, limit, into)
	if err != nil {
		return nil, err
	}
	return Unknown(data, into), nil
}

// bodyTime is ample for the small bodies that DecodeJSON reads.
const bodyTime = 30 * time.Second

// decodeJSON returns the body that it read, too.
func decodeJSON(w http.ResponseWriter, r *http.Request, limit int64, into any) ([]byte, error) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTime)) // tests' writers have none
	body, err := Body(w, r)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, body, limit))
	if err != nil {
		return nil, BodyError(err)
	}
	if data, err = UTF8(data, r.Header.Get("Content-Type")); err != nil {
		return nil, err
	}
	if err := Unmarshal(data, into); err != nil {
		return nil, BodyError(err)
	}
	// The server reads on, to notice a caller that leaves: that has no deadline.
	_ = control.SetReadDeadline(time.Time{})
	return data, nil
}

func invalidJSON(target, format string, args ...any) *sandpool.Error {
	return sandpool.Errorf(sandpool.Invalid, "InvalidRequestContent", target, format, args...)
}

// BodyError tells the caller what is wrong with a body that could not be read or decoded, without
// repeating it. The target is the path of the field, if it is about one.
func BodyError(err error) *sandpool.Error {
	var (
		big    *http.MaxBytesError
		typ    *json.UnmarshalTypeError
		syntax *json.SyntaxError
	)
	var ours *sandpool.Error
	var field *api.FieldError
	switch {
	case errors.As(err, &field):
		return invalidJSON(field.Field, "%s", field.Message)
	case errors.As(err, &ours):
		return ours
	case errors.As(err, &big):
		return tooLarge(big.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return invalidJSON("", "The request body came too slowly; send it without pauses.")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return invalidJSON("", "The request body ended early; send it whole.")
	case errors.As(err, &typ) && fieldPath(typ) != "":
		return invalidJSON(fieldPath(typ), "The value of %s is a JSON %s; it must be of type %s.",
			fieldPath(typ), clip(typ.Value, 60), kindName(typ))
	case errors.As(err, &typ):
		return invalidJSON("", "The request body is a JSON %s; send a JSON object.",
			clip(typ.Value, 60))
	case errors.As(err, &syntax) && syntax.Offset == 0:
		return invalidJSON("", "The request body is empty; send a JSON object.")
	case errors.As(err, &syntax) && syntax.Error() == "unexpected end of JSON input":
		return invalidJSON("", "The request body ends in the middle of a JSON value.")
	case errors.As(err, &syntax) && strings.HasSuffix(syntax.Error(), "after top-level value"):
		return invalidJSON("", "The request body has text after the JSON value.")
	case errors.As(err, &syntax):
		return invalidJSON("", "The request body is not JSON: %s, at byte %d.", syntax.Error(),
			syntax.Offset)
	}
	return &sandpool.Error{Class: sandpool.Invalid, Code: "InvalidRequestContent",
		Message: "The request body was not understood as JSON.", Err: err}
}

// fieldPath is the path of the field as JSON has it: that of Go has the names of embedded structs,
// which begin with a capital, as no field of ours does.
func fieldPath(e *json.UnmarshalTypeError) string {
	return strings.Join(slices.DeleteFunc(strings.Split(e.Field, "."), func(name string) bool {
		return name != "" && name[0] >= 'A' && name[0] <= 'Z'
	}), ".")
}

// kindName names what the field takes in JSON's words.
func kindName(e *json.UnmarshalTypeError) string {
	if e.Type == reflect.TypeFor[json.Number]() {
		return "number"
	}
	switch e.Type.Kind().String() {
	case "int", "int8", "int16", "int32", "int64", "uint", "uint8", "uint16", "uint32", "uint64":
		return "integer"
	case "float32", "float64":
		return "number"
	case "bool":
		return "boolean"
	case "slice", "array":
		return "array"
	case "map", "struct":
		return "object"
	}
	return "string"
}

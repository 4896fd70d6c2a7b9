package describe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/sandpool/sandpool/api"
)

// Document returns the description, in JSON. The comments of the schemas are those of the Go files
// in apiDir.
func Document(apiDir string) ([]byte, error) {
	read, err := readComments(apiDir)
	if err != nil {
		return nil, err
	}
	s := &schemas{comments: read, made: map[string]object{}}
	paths := map[string]object{}
	var tags []object
	for _, sec := range sections() {
		tags = append(tags, object{"name": sec.tag, "description": sec.text})
		var ops []*operation
		sec.add(func(id, key, summary string) *operation {
			o := &operation{id: id, key: key, summary: summary, answers: object{}, schemas: s}
			ops = append(ops, o)
			return o
		})
		for _, o := range ops {
			if err := place(paths, sec.tag, o); err != nil {
				return nil, err
			}
		}
	}
	errorBody := object{"description": "An error. The header X-Ms-Error-Code has its code, too.",
		"content": object{"application/json": object{"schema": s.of(reflect.TypeFor[api.ErrorBody]())}}}
	s.made["TokenError"] = object{"type": "object", "required": []string{"error",
		"error_description"}, "properties": object{"error": object{"type": "string"},
		"error_description": object{"type": "string"}},
		"description": "An error of the issuer, as RFC 6749 has it."}
	tokenError := object{"description": "An error, as RFC 6749 has it.",
		"content": object{"application/json": object{"schema": object{
			"$ref": "#/components/schemas/TokenError"}}}}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", " ")
	enc.SetEscapeHTML(false)
	err = enc.Encode(struct {
		OpenAPI    string            `json:"openapi"`
		Info       object            `json:"info"`
		Servers    []object          `json:"servers"`
		Security   []object          `json:"security"`
		Tags       []object          `json:"tags"`
		Paths      map[string]object `json:"paths"`
		Components object            `json:"components"`
	}{
		"3.1.0",
		object{"title": "sandpool", "version": "1", "description": introduction,
			"license": object{"name": "Apache 2.0", "identifier": "Apache-2.0"}},
		[]object{{"url": "/"}},
		[]object{{"token": []string{}}},
		tags, paths,
		object{"schemas": s.made, "parameters": parameterObjects(),
			"responses": object{"Error": errorBody, "TokenError": tokenError},
			"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer",
				"description": "A token of the server, or one of the issuers that it trusts."}}},
	})
	return out.Bytes(), err
}

// introduction is the text before all.
const introduction = "Both planes of sandpool: session pools as Azure Resource Manager has " +
	"them, and the sessions in a pool, below its endpoint. Paths of Resource Manager do not mind " +
	"case or an api-version that is missing.\n\nEvery operation can also fail as its default " +
	"answer says: 400 for what is wrong with the request, 401 without a good token, 403 without " +
	"the right, 410 once for a session that was lost, 413 for a body that is too large, 429 and " +
	"503 with Retry-After for a caller or a server at its limits, 500 for what is the server's " +
	"fault. Unknown query parameters are ignored.\n\nRequests may spell the names of fields in any " +
	"case, and numbers and truth values as text. Null is as if the field were not there; in a merge " +
	"patch, it takes away what is."

// inPath finds the parameters of a path.
func inPath(path string) []string {
	var names []string
	for _, m := range regexp.MustCompile(`\{([a-zA-Z]+)\}`).FindAllStringSubmatch(path, -1) {
		names = append(names, m[1])
	}
	return names
}

// place puts an operation into the paths.
func place(paths map[string]object, tag string, o *operation) error {
	method, path, _ := strings.Cut(o.key, " ")
	method = strings.ToLower(method)
	item, ok := paths[path]
	if !ok {
		item = object{}
		paths[path] = item
		var parameters []object
		for _, name := range inPath(path) {
			parameters = append(parameters, object{"$ref": "#/components/parameters/path." + name})
		}
		if parameters != nil {
			item["parameters"] = parameters
		}
	}
	if item[method] != nil {
		return fmt.Errorf("describe: %s is described twice", o.key)
	}
	if len(o.answers) == 0 {
		return fmt.Errorf("describe: %s has no answer", o.key)
	}
	common := "Error"
	if o.open {
		common = "TokenError"
	}
	out := object{"operationId": o.id, "summary": o.summary, "tags": []string{tag},
		"responses": o.answers}
	if !o.open || len(o.body) > 0 || len(o.parameters) > 0 {
		o.answers["default"] = object{"$ref": "#/components/responses/" + common}
	}
	if o.open {
		out["security"] = []object{}
	}
	var parameters []object
	for _, name := range o.parameters {
		parameters = append(parameters, object{"$ref": "#/components/parameters/query." +
			strings.Replace(name, "$", "odata-", 1)})
	}
	if parameters != nil {
		out["parameters"] = parameters
	}
	if o.body != nil {
		out["requestBody"] = object{"content": o.body}
	}
	item[method] = out
	return nil
}

// parameterObjects are the parameters of paths and queries.
func parameterObjects() object {
	out := object{}
	for in, table := range map[string]map[string]string{"path": pathParameters(),
		"query": queryParameters()} {
		for name, text := range table {
			kind := "string"
			if slices.Contains(numbers(), name) {
				kind = "integer"
			}
			p := object{"name": name, "in": in, "description": text, "schema": object{"type": kind}}
			if name == anything {
				p["schema"] = object{"type": "object"}
			}
			if in == "path" {
				p["required"] = true
			}
			out[in+"."+strings.Replace(name, "$", "odata-", 1)] = p
		}
	}
	return out
}

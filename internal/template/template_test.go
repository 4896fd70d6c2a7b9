package template

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
)

// input is what the tests evaluate a template with.
func input(t testing.TB, text string) Input {
	t.Helper()
	clean, err := Clean([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	v, err := decode(clean)
	if err != nil {
		t.Fatal(err)
	}
	return Input{Template: v.(map[string]any), Name: "d1", Mode: "Incremental", Subscription: "s1",
		ResourceGroup: "lab", Tenant: "t1", Deployer: "ann", Group: map[string]any{"id": "/g", "location": "here"},
		BaseURL: "https://x", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Unique: "u"}
}

// evaluate returns the value of an expression.
func evaluate(t testing.TB, expression string) (any, error) {
	t.Helper()
	quoted, err := json.Marshal(expression)
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(input(t, `{"parameters":{"p":{"type":"object","defaultValue":{"a":[1,{"B":"c"}]}}},
		"functions":[{"namespace":"own","members":{"twice":{"parameters":[{"name":"Text","type":"string"}],
			"output":{"type":"string","value":"[concat(parameters('text'), parameters('text'))]"}},
			"both":{"output":{"value":["[own.twice('x')]"]}},
			"ever":{"output":{"value":"[own.ever()]"}},"reads":{"output":{"value":"[variables('v')]"}},
			"takes":{"output":{"value":"[parameters('p')]"}}}}],
		"variables":{"v":"[concat('x', variables('w'))]","w":"y","loop":"[variables('loop')]",
		"copy":[{"name":"many","count":3,"input":"[copyIndex('many', 1)]"}],
		"e":`+string(quoted)+`}}`))
	if err != nil {
		return nil, err
	}
	v, _, err := d.variable(scope{d: d}, "e")
	return v, err
}

// TestExpressions: what each function makes.
func TestExpressions(t *testing.T) {
	for expression, want := range map[string]string{
		"plain": `"plain"`, "[[literal]": `"[literal]"`, "['it''s']": `"it's"`, "[ 5 ]": `5`,
		"[-7]": `-7`, "[parameters('p').a[1].b]": `"c"`, "[variables('v')]": `"xy"`,
		"[parameters('P')['a'][0]]": `1`, "[variables('many')]": `[1,2,3]`,
		"[concat('a', 1, true())]": `"a1True"`, "[concat(createArray(1), createArray(2))]": `[1,2]`,
		"[format('{0}-{1}-{{}}', 'a', 3)]": `"a-3-{}"`, "[toLower('ABC')]": `"abc"`,
		"[toUpper('abc')]": `"ABC"`, "[if(equals(1, 1), 'y', div(1, 0))]": `"y"`,
		"[and(false(), bool('x'))]": `false`,
		"[or(true(), bool('x'))]":   `true`, "[not(false())]": `true`,
		"[equals('a', 'A')]": `false`, "[union(createObject('a', createObject('b', 1)), " +
			"createObject('a', createObject('c', 2)))]": `{"a":{"b":1,"c":2}}`,
		"[union(createArray(1, 2), createArray(2, 3))]":        `[1,2,3]`,
		"[intersection(createArray(1, 2), createArray(2, 3))]": `[2]`,
		"[resourceId('Microsoft.App/sessionPools', 'p')]": `"/subscriptions/s1/resourceGroups/lab/` +
			`providers/Microsoft.App/sessionPools/p"`,
		"[resourceId('other', 'Microsoft.App/sessionPools', 'p')]": `"/subscriptions/s1/` +
			`resourceGroups/other/providers/Microsoft.App/sessionPools/p"`,
		"[resourceId('s2', 'g', 'A.B/c/d', 'x', 'y')]": `"/subscriptions/s2/resourceGroups/g/` +
			`providers/A.B/c/x/d/y"`,
		"[subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'x')]": `"/subscriptions/` +
			`s1/providers/Microsoft.Authorization/roleDefinitions/x"`,
		"[extensionResourceId('/a', 'B.C/d', 'e')]":      `"/a/providers/B.C/d/e"`,
		"[guid('a', 'b')]":                               `"` + GUID("a-b") + `"`,
		"[length(uniqueString('a'))]":                    `13`,
		"[equals(uniqueString('a'), uniqueString('b'))]": `false`,
		"[resourceGroup().location]":                     `"here"`,
		"[subscription().subscriptionId]":                `"s1"`,
		"[deployment().name]":                            `"d1"`, "[length('héé')]": `3`,
		"[length(parameters('p'))]": `1`,
		"[empty('')]":               `true`, "[first('abc')]": `"a"`,
		"[last(createArray(1, 2))]": `2`,
		"[take('abc', 9)]":          `"abc"`, "[skip(createArray(1, 2), 1)]": `[2]`,
		"[contains('abc', 'b')]":            `true`,
		"[contains(createArray('a'), 'b')]": `false`, "[contains(parameters('p'), 'A')]": `true`,
		"[split('a,b;c', createArray(',', ';'))]": `["a","b","c"]`,
		"[join(createArray('a', 2), '-')]":        `"a-2"`,
		"[replace('aba', 'a', 'c')]":              `"cbc"`, "[substring('hello', 1, 3)]": `"ell"`,
		"[padLeft('7', 3, '0')]": `"007"`, "[indexOf('abc', 'C')]": `2`,
		"[startsWith('Abc', 'a')]":       `true`,
		"[string(createObject('a', 1))]": `"{\"a\":1}"`, "[json('{\"a\":[1]}').a]": `[1]`,
		"[int('12')]": `12`, "[add(1, 2)]": `3`, "[sub(1, 2)]": `-1`, "[mul(3, -4)]": `-12`,
		"[div(7, 2)]": `3`, "[mod(7, 2)]": `1`, "[min(3, 1)]": `1`, "[max(createArray(3, 9))]": `9`,
		"[range(5, 2)]": `[5,6]`, "[coalesce(null(), 'x')]": `"x"`, "[less('a', 'b')]": `true`,
		"[greaterOrEquals(2, 2)]": `true`, "[base64('a')]": `"YQ=="`,
		"[base64ToString('YQ==')]": `"a"`,
		"[uriComponent('a b')]":    `"a%20b"`, "[tryGet(parameters('p'), 'a', 5)]": `null`,
		"[items(createObject('b', 1, 'a', 2))[0].key]": `"a"`, "[trim('  a ')]": `"a"`,
		"[environment().name]": `"sandpool"`, "[uri('http://x/y/z', '/w')]": `"http://x/y/w"`,
		"[flatten(createArray(createArray(1), createArray(2)))]":        `[1,2]`,
		"[map(range(1, 2), lambda('n', mul(lambdaVariables('N'), 2)))]": `[2,4]`,
		"[map(createArray('a', 'b'), lambda('x', 'i', format('{0}{1}', " +
			"lambdaVariables('x'), lambdaVariables('i'))))]": `["a0","b1"]`,
		"[filter(range(0, 4), lambda('n', greater(lambdaVariables('n'), 1)))]": `[2,3]`,
		"[reduce(range(1, 3), 0, lambda('sum', 'n', add(lambdaVariables('sum'), " +
			"lambdaVariables('n'))))]": `6`,
		"[sort(createArray(3, 1, 2), lambda('a', 'b', less(lambdaVariables('a'), " +
			"lambdaVariables('b'))))]": `[1,2,3]`,
		"[toObject(createArray('a', 'b'), lambda('x', lambdaVariables('x')), lambda('x', " +
			"length(lambdaVariables('x'))))]": `{"a":1,"b":1}`,
		"[groupBy(createArray('ab', 'ac', 'b'), lambda('x', take(lambdaVariables('x'), 1)))]": "" +
			`{"a":["ab","ac"],"b":["b"]}`,
		"[mapValues(createObject('a', 1), lambda('v', add(lambdaVariables('v'), 1)))]": `{"a":2}`,
		"[map(range(0, 2), lambda('x', map(range(0, 2), lambda('y', add(lambdaVariables('x'), " +
			"lambdaVariables('y'))))))]": `[[0,1],[1,2]]`,
		"[own.twice('ab')]": `"abab"`, "[OWN.Both()]": `["xx"]`, "[deployer().objectId]": `"ann"`,
		"[dateTimeAdd('2026-01-31T23:00:00Z', 'PT2H30M')]":        `"2026-02-01T01:30:00Z"`,
		"[dateTimeAdd('20260102T030405Z', '-P1D', 'yyyy-MM-dd')]": `"2026-01-01"`,
		"[dateTimeAdd('2024-01-01 00:00:00Z', 'P1Y')]":            `"2024-12-31T00:00:00Z"`,
		"[dateTimeToEpoch('2023-05-02T15:16:13Z')]":               `1683040573`,
		"[dateTimeFromEpoch(1683040573)]":                         `"2023-05-02T15:16:13Z"`,
		"[dataUri('Hello')]":                                      `"data:text/plain;charset=utf8;base64,SGVsbG8="`,
		"[dataUriToString('data:;base64,SGVsbG8sIFdvcmxkIQ==')]":  `"Hello, World!"`,
		"[dataUriToString('data:,a%20b')]":                        `"a b"`,
		"[indexFromEnd(createArray('a', 'b', 'c'), 1)]":           `"c"`,
		"[tryIndexFromEnd(createArray('a', 'b'), 2)]":             `"a"`,
		"[tryIndexFromEnd(createArray('a', 'b'), 3)]":             `null`,
		"[tryIndexFromEnd(null(), 1)]":                            `null`,
		"[tryIndexFromEnd(parameters('p').a, 1, 'b')]":            `"c"`,
		"[tryIndexFromEnd(createArray(createArray(1, 2)), 1, " +
			"createObject('value', 2, 'fromEnd', true()))]": `1`,
		"[tryGet(parameters('p'), 'a', createObject('value', 1, 'fromEnd', true()), 'b')]": `"c"`,
		"[tryGet(parameters('p'), 'a', createObject('value', 0, 'fromEnd', false()))]":     `1`,
		"[indexOf(createArray('one', 'two', 'one'), 'one')]":                               `0`,
		"[lastIndexOf(createArray('one', 'two', 'one'), 'one')]":                           `2`,
		"[indexOf(createArray('one'), 'One')]":                                             `-1`,
		"[indexOf(createArray(1, '1'), '1')]":                                              `1`,
		"[float('2.5')]":                                                                   `2.5`, "[float(3)]": `3`,
		"[parseCidr('10.144.0.0/20').lastUsable]": `"10.144.15.254"`,
		"[cidrSubnet('10.144.0.0/20', 24, 4)]":    `"10.144.4.0/24"`,
		"[cidrHost('10.144.3.0/24', 0)]":          `"10.144.3.1"`,
	} {
		v, err := evaluate(t, expression)
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		if got, _ := json.Marshal(v); string(got) != want {
			t.Errorf("%s is %s, want %s", expression, got, want)
		}
	}
}

// TestRefusals: what is not understood is an error that names it.
func TestRefusals(t *testing.T) {
	for expression, says := range map[string]string{
		"[listKeys('x')]": "listKeys", "[concat('a'": "", "[concat('a']": "no comma",
		"[]":    "ends too early",
		"[foo]": `"foo"`, "[1 2]": "after its end", "[parameters('q')]": `"q"`,
		"[variables('q')]":    `"q"`,
		"[variables('loop')]": "refers to itself", "[toLower(1)]": "toLower has a number",
		"[resourceId('a', 'b')]": "", "[concat('a', createArray())]": "concat",
		"[copyIndex()]": "copy",
		"[div(1, 0)]":   "divides", "[add(9223372036854775807, 1)]": "range",
		"[mod(1, 0)]":            "divides",
		"[substring('a', 0, 2)]": "substring", "[format('{1}', 'a')]": "{1}",
		"[if('x', 1, 2)]":        "if",
		"[parameters('p').none]": "none", "[utcNow()]": "default value",
		"[newGuid()]": "default value",
		"[ns.f()]":    "ns.f", "[toLower('a', 'b')]": "2 arguments", "['a]": "without an end",
		"[padLeft('a', 100000)]": "4096",
		"[range(0, 100000)]":     "10000", "[9999999999999999999]": "64 bits",
		"[own.ever()]": "calls itself", "[own.reads()]": "own", "[own.takes()]": `"p"`,
		"[own.twice()]": "takes 1", "[map(range(0, 2), 'x')]": "lambda", "[map('x', lambda('a', 1))]": "array",
		"[lambdaVariables('x')]": `"x"`, "[filter(range(0, 2), lambda('x', 1))]": "truth",
		"[sort(range(0, 2), lambda('a', 'b', 'x'))]": "truth", "[lambda('x', 1)]": "lambda",
		"[toObject(createArray('a', 'a'), lambda('x', lambdaVariables('x')))]": "one name",
		"[groupBy(range(0, 1), lambda('x', lambdaVariables('x')))]":            "string",
		"[map(range(0, 2), lambda(1, 2))]":                                     "quotes", "[reduce(range(0, 2), 0)]": "2 arguments",
		"[mapValues(1, lambda('v', 1))]": "object", "[fail('because')]": "because",
		"[dateTimeToEpoch('soon')]": "time", "[dateTimeFromEpoch(99999999999999)]": "9999",
		"[dateTimeFromEpoch(-9223372036854775808)]": "9999", "[dateTimeAdd('2026-01-01', 'P1D', 'Q')]": `"Q"`,
		"[dataUriToString('Hello')]": "data URI", "[dataUriToString('data:;base64,*')]": "base64",
		"[indexFromEnd(createArray(1), 2)]": "from the end", "[indexFromEnd(createArray(1), 0)]": "from the end",
		"[tryIndexFromEnd(createArray(1), 'x')]": "number", "[references('x')]": "symbolic name",
		"[references('x', 'Some')]": "Properties", "[references('')]": "symbolic name", "[float('x')]": "no number",
		"[float('Inf')]": "no number", "[parseCidr('10.0.0.0')]": "range", "[cidrHost('10.0.0.0/8', -1)]": "address",
		"[cidrSubnet('10.0.0.0/8', 4, 0)]": "larger",
		"[dateTimeAdd('2026-01-01', 'P')]": "", "[dateTimeAdd('x', 'P1D')]": "time",
		"[dateTimeAdd('2026-01-01', 'P1')]": "duration", "[dateTimeAdd('2026-01-01', 'PT')]": "duration",
		"[map(range(0, 1000), lambda('a', map(range(0, 1000), lambda('b', 1))))]": "steps",
		"[map(range(0, 9000), lambda('a', padLeft('x', 4000)))]":                  "bytes",
		"[parameters('p').?a]":                                                        ".?",
		"[" + strings.Repeat("not(", 100) + "true()":                                  "",
		"[" + strings.Repeat("not(", 100) + "true()" + strings.Repeat(")", 100) + "]": "deep",
	} {
		v, err := evaluate(t, expression)
		if !isExpression(expression) {
			continue
		}
		if err == nil || sandpool.ClassOf(err) != sandpool.Invalid ||
			!strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, %v; want an error with %q", expression, v, err, says)
		}
	}
}

const pools = `{
	// a comment
	"$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
	"contentVersion": "1.0.0.0",
	"parameters": {
		"name": {"type": "string", "minLength": 3, "maxLength": 10},
		"count": {"type": "int", "defaultValue": 2, "allowedValues": [0, 1, 2]},
		"secret": {"type": "securestring", "defaultValue": "hush"},
		"location": {"type": "string", "defaultValue": "[resourceGroup().location]"},
		"id": {"type": "string", "defaultValue": "[newGuid()]"},
	},
	"variables": {"kind": "Microsoft.App/sessionPools"},
	"resources": [
		{"type": "[variables('kind')]", "apiVersion": "2025-07-01", "name": "[format('{0}{1}', parameters('name'), copyIndex())]",
		 "copy": {"name": "loop", "count": "[parameters('count')]"},
		 "location": "[parameters('location')]", "properties": {"n": "[copyIndex()]", "s": "[parameters('secret')]"}},
		{"type": "Microsoft.App/sessionPools", "apiVersion": "2025-07-01", "name": "last", "dependsOn": ["loop"],
		 "properties": {"first": "[reference(resourceId('Microsoft.App/sessionPools', concat(parameters('name'), '0'))).x]"}},
		{"type": "Microsoft.App/sessionPools", "apiVersion": "2025-07-01", "name": "never", "condition": "[equals(1, 2)]"},
		{"type": "Microsoft.Authorization/roleAssignments", "apiVersion": "2022-04-01", "name": "[guid('a')]",
		 "scope": "[resourceId('Microsoft.App/sessionPools', 'last')]", "dependsOn": ["last"], "properties": {}}
	],
	"outputs": {"endpoint": {"type": "string", "value": "[reference('last').x]"},
		"all": {"type": "array", "copy": {"count": 2, "input": "[copyIndex()]"}},
		"none": {"type": "string", "condition": false, "value": "x"},
		"hidden": {"type": "securestring", "value": "[parameters('secret')]"}}
}`

// TestDeployment: copies, conditions, order, references and outputs.
func TestDeployment(t *testing.T) {
	in := input(t, pools)
	in.Parameters = map[string]any{"name": map[string]any{"value": "pool"}}
	in.Get = func(id, _ string) (map[string]any, error) {
		return map[string]any{"properties": map[string]any{"x": id[strings.LastIndex(id, "/")+1:]}},
			nil
	}
	d, err := New(in)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range d.Resources {
		if r.Wanted {
			ids = append(ids, strings.TrimPrefix(r.ID,
				"/subscriptions/s1/resourceGroups/lab/providers/"))
		}
	}
	last := "Microsoft.App/sessionPools/last"
	if diff := cmp.Diff([]string{"Microsoft.App/sessionPools/pool0",
		"Microsoft.App/sessionPools/pool1",
		last, last + "/providers/Microsoft.Authorization/roleAssignments/" + GUID("a")},
		ids); diff != "" {
		t.Errorf("resources: %s", diff)
	}
	if diff := cmp.Diff([]int{0, 1}, d.Resources[2].After); diff != "" {
		t.Errorf("the last comes after %s", diff)
	}
	var needs *Needs
	if _, err := d.Body(d.Resources[2], false); !errors.As(err, &needs) || needs.Index != 0 {
		t.Errorf("a body before what it refers to: %v", err)
	}
	for _, r := range d.Resources {
		r.Done = true
	}
	for i, want := range []string{`{"location":"here","properties":{"n":0,"s":"hush"}}`,
		`{"location":"here","properties":{"n":1,"s":"hush"}}`, `{"properties":{"first":"pool0"}}`} {
		body, err := d.Body(d.Resources[i], false)
		if got, _ := json.Marshal(body); err != nil || string(got) != want {
			t.Errorf("body %d: %s, %v", i, got, err)
		}
	}
	out, err := d.Outputs()
	if got, _ := json.Marshal(out); err != nil ||
		string(got) != `{"all":{"type":"Array","value":[0,1]},`+
			`"endpoint":{"type":"String","value":"last"},"hidden":{"type":"SecureString"}}` {
		t.Errorf("outputs: %s, %v", got, err)
	}
	shown, _ := json.Marshal(d.Parameters())
	if strings.Contains(string(shown), "hush") ||
		!strings.Contains(string(shown), `"name":{"type":"String","value":"pool"}`) {
		t.Errorf("parameters: %s", shown)
	}
	again, err := New(in)
	if err != nil || text(again.Parameters()["id"]) != text(d.Parameters()["id"]) {
		t.Errorf("a new GUID differs in the second evaluation: %v", err)
	}
	in.Get = nil
	if d, err = New(in); err != nil {
		t.Fatal(err)
	}
	body, err := d.Body(d.Resources[2], true)
	if got, _ := json.Marshal(body); err != nil || !strings.Contains(string(got), "[reference(") {
		t.Errorf("a body before deployment: %s, %v", got, err)
	}
}

// TestReferences: what the resources of a copy say of themselves, in their order and when all of
// them are deployed, but for those whose condition is false.
func TestReferences(t *testing.T) {
	in := input(t, `{"languageVersion":"2.0","resources":{
		"each":{"type":"A.B/c","apiVersion":"1","name":"[format('n{0}', copyIndex())]",
			"condition":"[not(equals(copyIndex(), 1))]","copy":{"name":"each","count":3}},
		"last":{"type":"A.B/c","apiVersion":"1","name":"last","dependsOn":["each"],
			"properties":{"all":"[references('each')]",
			"ids":"[map(references('each', 'full'), lambda('r', lambdaVariables('r').id))]"}}}}`)
	in.Get = func(id, _ string) (map[string]any, error) {
		return map[string]any{"id": id[strings.LastIndex(id, "/")+1:],
			"properties": map[string]any{"x": id[len(id)-1:]}}, nil
	}
	d, err := New(in)
	if err != nil {
		t.Fatal(err)
	}
	var needs *Needs
	for _, want := range []int{0, 2} {
		if _, err := d.Body(d.Resources[3], false); !errors.As(err, &needs) || needs.Index != want {
			t.Errorf("before resource %d is deployed: %v", want, err)
		}
		d.Resources[want].Done = true
	}
	body, err := d.Body(d.Resources[3], false)
	if got, _ := json.Marshal(body); err != nil || string(got) != `{"properties":{"all":[{"x":"0"},`+
		`{"x":"2"}],"ids":["n0","n2"]}}` {
		t.Errorf("%s, %v", got, err)
	}
	in.Get = nil
	if d, err = New(in); err != nil {
		t.Fatal(err)
	}
	body, err = d.Body(d.Resources[3], true)
	if got, _ := json.Marshal(body); err != nil || !strings.Contains(string(got), "[references(") {
		t.Errorf("before the deployment: %s, %v", got, err)
	}
}

// TestDefinitions: parameters and outputs may have types that the template defines.
func TestDefinitions(t *testing.T) {
	const definitions = `"definitions":{"size":{"type":"int","minValue":1,"maxValue":9},
		"small":{"$ref":"#/definitions/size","maxValue":3},"a":{"$ref":"#/definitions/b"},
		"b":{"$ref":"#/definitions/a"},"far":{"$ref":"https://x"}}`
	in := input(t, `{`+definitions+`,"parameters":{"n":{"$ref":"#/definitions/small",
		"defaultValue":2}},"outputs":{"o":{"$ref":"#/definitions/size","value":"[parameters('n')]"}}}`)
	d, err := New(in)
	if err != nil {
		t.Fatal(err)
	}
	out, err := d.Outputs()
	if got, _ := json.Marshal(out); err != nil || string(got) != `{"o":{"type":"Int","value":2}}` {
		t.Errorf("%s, %v", got, err)
	}
	in.Parameters = map[string]any{"n": map[string]any{"value": int64(4)}}
	if _, err := New(in); err == nil || !strings.Contains(err.Error(), "maxValue, 3") {
		t.Errorf("too large: %v", err)
	}
	for _, ref := range []string{"#/definitions/a", "#/definitions/none", "#/definitions/far",
		"https://x", ""} {
		if _, err := New(input(t, `{`+definitions+`,"parameters":{"n":{"$ref":"`+ref+
			`","defaultValue":1}}}`)); err == nil || !strings.Contains(err.Error(), `"n"`) {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

// TestTemplates: what is wrong with a template is said by name.
func TestTemplates(t *testing.T) {
	for text, says := range map[string]string{
		`{"functions":[{"namespace":"x"}]}`: "functions", `{"resource":[]}`: "resource",
		`{"parameters":{"a":{"type":"text"}}}`:                                           "text",
		`{"parameters":{"a":{"type":"int"}}}`:                                            "no value",
		`{"parameters":{"a":{"type":"int","defaultValue":"x"}}}`:                         "type int",
		`{"parameters":{"a":{"type":"int","defaultValue":7,"maxValue":5}}}`:              "maxValue",
		`{"parameters":{"a":{"type":"string","defaultValue":"","minLength":1}}}`:         "minLength",
		`{"parameters":{"a":{"type":"string","defaultValue":"x","allowedValues":[1]}}}`:  "one of",
		`{"resources":[{"type":"A.B/c","name":"x"}]}`:                                    "apiVersion",
		`{"resources":[{"type":"A.B/c","name":"x/y","apiVersion":"1"}]}`:                 "does not fit",
		`{"resources":[{"type":"A.B/c/d","name":"x","apiVersion":"1"}]}`:                 "parts",
		`{"resources":[{"type":"A.B/c","name":"x","apiVersion":"1","dependsOn":["y"]}]}`: `"y"`,
		`{"resources":[{"type":"A.B/c","name":"x","apiVersion":"1","dependsOn":["y"]},
			{"type":"A.B/c","name":"y","apiVersion":"1","dependsOn":["x"]}]}`: "itself",
		`{"resources":[{"type":"A.B/c","name":"x","apiVersion":"1"},
			{"type":"A.B/c","name":"x","apiVersion":"1"}]}`: "twice",
		`{"resources":[{"type":"A.B/c","name":"[copyIndex()]","apiVersion":"1","copy":{"name":"l","count":100000}}]}`: "count",
		`{"resources":7}`: "array",
	} {
		_, err := New(input(t, text))
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want %q in it", text, err, says)
		}
	}
	in := input(t, `{}`)
	in.Parameters = map[string]any{"x": map[string]any{"value": 1}}
	if _, err := New(in); err == nil || !strings.Contains(err.Error(), `"x"`) {
		t.Errorf("a parameter that is not declared: %v", err)
	}
}

// TestClean: az sends a template as it is written.
func TestClean(t *testing.T) {
	got, err := Clean([]byte(
		"{\"properties\": {\"mode\": \"Incremental\", template:{ // c\n \"a\": \"x\ny//z\", /* b */ \"b\": [1,2,],\n}}}"))
	if err != nil || string(got) != `{"properties": {"mode": "Incremental", "template":{ `+"\n"+
		` "a": "x\ny//z",  "b": [1,2]}}}` {
		t.Errorf("%s, %v", got, err)
	}
	for _, bad := range []string{"", "{", `{"a`, "{a}", "/*", "{\"a\":1}}", "\xff", `{"a":"\`} {
		if got, err := Clean([]byte(bad)); err == nil {
			t.Errorf("%q is %s", bad, got)
		}
	}
}

// FuzzExpression: whatever an expression says, it ends, and its error is the caller's.
func FuzzExpression(f *testing.F) {
	for _, seed := range []string{"[concat('a', parameters('p').a[0])]",
		"[if(equals(1,2),'x',json('{}'))]",
		"[format('{0}', range(1,3))]", "[variables('loop')]",
		"[split('a,b', ',')]", "[[x]", "[copyIndex()]", "[own.ever()]", "[own.both()[0]]",
		"[sort(range(0, 9), lambda('a', 'b', less(lambdaVariables('b'), lambdaVariables('a'))))]",
		"[reduce(range(0, 9), 'x', lambda('a', 'b', concat(lambdaVariables('a'), 'y')))]",
		"[toObject(createArray('a'), lambda('x', lambdaVariables('x')), lambda('x', 1))]",
		"[dateTimeAdd('2026-01-01', 'P1M', 'yyyy MMM')]", "[dateTimeToEpoch(dateTimeFromEpoch(7))]",
		"[dataUriToString(dataUri('a'))]", "[indexFromEnd(createArray(1), 1)]", "[references('x', 'Full')]",
		"[tryIndexFromEnd(createArray(1), 1, createObject('value', 2, 'fromEnd', true()))]",
		"[float('1e9')]", "[parseCidr('fd00::/8')]", "[cidrSubnet('10.0.0.0/8', 24, 9)]",
		"[cidrHost('fd00::/8', 9223372036854775807)]", "[lastIndexOf(createArray('a'), 'a')]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, expression string) {
		_, err := evaluate(t, expression)
		if err != nil && sandpool.ClassOf(err) != sandpool.Invalid && !errors.Is(err, errUnknown) {
			t.Errorf("%q: %v", expression, err)
		}
	})
}

// FuzzTemplate: no text makes a panic, and what Clean takes is JSON.
func FuzzTemplate(f *testing.F) {
	f.Add(pools)
	f.Add(`{resources:[{type:"A.B/c",name:"x",apiVersion:"1",resources:[{type:"d",name:"y",apiVersion:"1"}]}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		clean, err := Clean([]byte(text))
		if err != nil {
			return
		}
		v, err := decode(clean)
		if err != nil {
			t.Fatalf("%q: %v", clean, err)
		}
		m, _ := v.(map[string]any)
		if d, err := New(Input{Template: m}); err == nil {
			for _, r := range d.Resources {
				_, _ = d.Body(r, true)
			}
			_, _ = d.Outputs()
		}
	})
}

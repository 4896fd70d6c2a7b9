package web

import (
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// snippet is a way to use a pool, to copy.
type snippet struct{ Name, Text string }

// connect is how clients of every kind reach a pool: with its own endpoint, and a token in the
// variable TOKEN.
func connect(p api.SessionPool, endpoint string) []snippet {
	endpoint = strings.TrimSuffix(endpoint, "/")
	fill := strings.NewReplacer("{pool}", p.Name, "{endpoint}", endpoint).Replace
	var all []snippet
	add := func(name, text string) { all = append(all, snippet{name, fill(text)}) }
	kind := sandpool.ContainerType(p.Properties.ContainerType)
	if kind == sandpool.CustomContainer {
		add("curl", `curl -H "Authorization: Bearer $TOKEN" '{endpoint}/?identifier=my-session'`)
		add("sandpool", "# a port of the container on this machine\n"+
			"sandpool session forward --pool {pool} --session my-session 8080:80")
		add("az", `az rest --method get --resource https://dynamicsessions.io \
  --url '{endpoint}/?identifier=my-session'`)
		add("Python", `import os, urllib.request
request = urllib.request.Request(
    "{endpoint}/?identifier=my-session",
    headers={"Authorization": "Bearer " + os.environ["TOKEN"]})
print(urllib.request.urlopen(request).read().decode())`)
		add("JavaScript", `const response = await fetch(
  "{endpoint}/?identifier=my-session",
  { headers: { Authorization: "Bearer " + process.env.TOKEN } });
console.log(await response.text());`)
		return all
	}
	body := `{"codeInputType":"Inline","executionType":"Synchronous","code":"` + sampleOf(kind) + `"}`
	if kind == sandpool.Shell {
		body = `{"shellCommand":"` + sampleOf(kind) + `"}`
	}
	url := "{endpoint}/executions?api-version=2025-10-02-preview&identifier=my-session"
	add("curl", `curl -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
  '`+url+`' \
  -d '`+body+`'`)
	add("sandpool", "sandpool exec --pool {pool} --session my-session '"+sampleOf(kind)+"'")
	add("az", `az rest --method post --resource https://dynamicsessions.io \
  --url '`+url+`' \
  --body '`+body+`'`)
	if kind == sandpool.PythonLTS {
		add("LangChain", `# pip install langchain-azure-dynamic-sessions
from langchain_azure_dynamic_sessions import SessionsPythonREPLTool
tool = SessionsPythonREPLTool(pool_management_endpoint="{endpoint}/",
                              access_token_provider=lambda: TOKEN)
print(tool.run("6 * 7"))`)
	}
	add("Python", `import json, os, urllib.request
request = urllib.request.Request(
    "`+url+`",
    data=b'`+body+`',
    headers={"Authorization": "Bearer " + os.environ["TOKEN"],
             "Content-Type": "application/json"})
print(json.load(urllib.request.urlopen(request)))`)
	add("JavaScript", `const response = await fetch(
  "`+url+`",
  { method: "POST",
    headers: { Authorization: "Bearer " + process.env.TOKEN, "Content-Type": "application/json" },
    body: '`+body+`' });
console.log(await response.json());`)
	add("MCP", `# for agents that speak MCP; the pool needs a key: sandpool pool update {pool} --mcp
{"mcpServers": {"sandpool": {"command": "sandpool", "args": ["mcp", "--pool", "{pool}"]}}}`)
	return all
}

// sampleOf is code of a kind that says 42.
func sampleOf(kind sandpool.ContainerType) string {
	if kind == sandpool.Shell {
		return "echo $((6*7))"
	}
	return "6 * 7"
}
